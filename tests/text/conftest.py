"""A small vocabulary for the tests of text."""

import pytest

from realm_jax.text.tokenizer import SPECIAL_TOKENS, Tokenizer

WORDS = (
    "the a of in is was paris lima france capital king jean war sea 19 ##69 ##44 1969 . , ' - ( ) [ ]"
    " un ##able able"
)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """Specials, some words, and every ASCII letter and digit on its own, so that nothing plain is unknown."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    pieces = [*SPECIAL_TOKENS, *WORDS.split(), *letters, *("##" + c for c in letters)]
    return Tokenizer(list(dict.fromkeys(pieces)))
