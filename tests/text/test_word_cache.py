"""The word cache gives what the library gives."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from realm_jax.text.word_cache import WordCache

# Blanks, punctuation, accents, control and format characters, scripts without blanks, surrogate pairs.
HARD = (
    " \t\n\r\x00\x0b\x1c\x85\xa0\u200b\u3000\xad.,-'[]_$aZ9\u00e9\u0301\u0130\u00df\u4e2d\u0e01\ud55c"
    "\u2013\u2026\ufb01\U0001f600"
)
WHOLE = ["the king of Paris", "[MASK]", "unable", "x" * 130]
text = st.text(st.sampled_from(HARD), max_size=24) | st.text(st.characters(codec="utf-8"), max_size=12)
texts = st.lists(text | st.sampled_from(WHOLE), max_size=6)


def check(cache, batch):
    encoded = cache.encode(batch)
    assert encoded.ids.dtype == np.int32 and len(encoded.tokens) == len(batch) + 1
    for i, expected in enumerate(cache.tokenizer.encode_batch(batch, special_tokens=False)):
        own = slice(*encoded.tokens[i : i + 2])
        offsets = np.stack([encoded.starts[own], encoded.stops[own]], axis=1) - encoded.characters[i]
        assert np.array_equal(encoded.ids[own], expected.ids)
        assert np.array_equal(offsets, expected.offsets)


@given(texts)
@settings(max_examples=300, deadline=None)
def test_equals_the_library(tokenizer, batch):
    check(WordCache(tokenizer), batch)


@given(texts, texts)
@settings(max_examples=50, deadline=None)
def test_what_was_seen_before_does_not_matter(tokenizer, before, batch):
    cache = WordCache(tokenizer, max_entries=3)  # forgets all the time
    check(cache, before)
    check(cache, batch)
