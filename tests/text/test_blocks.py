"""Sentences by rule, and blocks of whole sentences."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_jax.errors import ConfigError
from realm_jax.text.blocks import (
    SPLITTERS,
    block_uid,
    fill_blocks,
    first_tokens,
    get_splitter,
    split_lines,
    split_sentences,
)


def sentences(text):
    return [text[a:b].strip() for a, b in split_sentences(text)]


@pytest.mark.parametrize(
    "expected",
    [
        ["One sentence.", "Another one!", "A third?", "Yes."],
        ["Dr. Smith met Mr. Jones at St. Mary's.", "They talked."],
        ["J. K. Rowling wrote it.", "W. H. Auden did not."],
        ["It is 3.5 metres (approx. 11 ft) high.", "It fell in 1990."],
        ["He moved to the U.S. Army base.", "It was far."],
        ["She lived in the U.S.", "The house was big."],
        ['"Is it far?"', '"No."', "He left."],
        ["He said \u201cgo.\u201d", "She went."],
        ["Well... it was late.", "Then... Nothing."],
        ["See vol. 3 and pp. 4 for details, i.e. the rest.", "End."],
        ["No. 5 is a perfume.", "Is it?", "No.", "It is not."],
        ["Yahoo! is a company.", "Really."],
        ["A heading without a stop", "A paragraph."],
        ["\u6771\u4eac\u306f\u65e5\u672c\u3002", "\u9996\u90fd\u3002"],
    ],
)
def test_sentences_by_rule(expected):
    blank = "" if "\u3002" in expected[0] else " "
    text = blank.join(expected).replace("without a stop ", "without a stop\n\n")
    got = sentences(text)
    if expected[0].startswith("Well"):
        expected = ["Well... it was late.", "Then...", "Nothing."]
    assert got == expected


def test_a_line_of_dots_is_gone_through_once():
    started = time.process_time()
    assert sentences("A" + "." * 200_000 + "b. C.") == ["A" + "." * 200_000 + "b.", "C."]
    assert time.process_time() - started < 5  # 0.05; squared it would be a minute


@pytest.mark.parametrize("splitter", list(SPLITTERS))
@given(text=st.text(st.sampled_from(" \n\r\t.!?\u2026\u3002\"')]aBc1DrU")) | st.text())
def test_ranges_cover_the_text_in_order(splitter, text):
    ranges = get_splitter(splitter)(text)
    assert "".join(text[a:b] for a, b in ranges) == text
    assert all(a < b for a, b in ranges)


def test_lines():
    assert [("a. b\n\nc")[x:y] for x, y in split_lines("a. b\n\nc")] == ["a. b\n\n", "c"]


def test_unknown_splitter_names_the_known():
    with pytest.raises(ConfigError, match="rules, lines"):
        get_splitter("punkt")


def test_first_tokens_drops_what_has_no_token_or_begins_inside_a_word():
    # Tokens at characters 0, 3, 4 (goes on a word) and 9; sentences begin at 0, 3, 4 (inside that word),
    # 6 (without a token of its own), 9 and 12 (without one).
    starts = np.array([0, 3, 4, 9])
    starts_word = np.array([True, True, False, True])
    assert first_tokens(starts, np.array([0, 3, 4, 6, 9, 12]), starts_word=starts_word).tolist() == [0, 1, 3]


def test_blocks_take_whole_sentences_greedily():
    every = np.ones(100, bool)
    assert fill_blocks([0, 4, 8, 11, 20], max_tokens=9, starts_word=every) == [[0, 4, 8], [8, 11], [11, 20]]


def test_long_sentences_are_cut_at_word_starts():
    starts_word = np.ones(30, bool)
    starts_word[[8, 9]] = False  # a word over tokens 7, 8, 9
    assert fill_blocks([0, 20], max_tokens=9, starts_word=starts_word) == [[0, 7], [7, 16], [16, 20]]
    # A word longer than the budget is cut inside.
    assert fill_blocks([0, 5], max_tokens=2, starts_word=np.zeros(5, bool)) == [[0, 2], [2, 4], [4, 5]]


@given(st.lists(st.integers(1, 20), min_size=1, max_size=12), st.integers(1, 15), st.integers(0, 99))
def test_blocks_cover_the_document_within_the_budget(lengths, budget, seed):
    edges = np.cumsum([0, *lengths]).tolist()
    starts_word = np.random.default_rng(seed).random(edges[-1] + 1) < 0.7
    blocks = fill_blocks(edges, max_tokens=budget, starts_word=starts_word)
    assert blocks[0][0] == 0 and blocks[-1][-1] == edges[-1]
    assert all(a[-1] == b[0] for a, b in zip(blocks, blocks[1:], strict=False))
    assert all(block[-1] - block[0] <= budget and block == sorted(set(block)) for block in blocks)
    # Greedy: the next sentence (or part) would not have fitted.
    assert all(b[1] - a[0] > budget for a, b in zip(blocks, blocks[1:], strict=False))
    # Every sentence that fits the budget is whole.
    inside = {edge for block in blocks for edge in block}
    assert set(edges) <= inside
    cuts = inside - set(edges)
    long = [(a, b) for a, b in zip(edges, edges[1:], strict=False) if b - a > budget]
    assert all(any(a < cut < b for a, b in long) for cut in cuts)


def test_uid_depends_on_title_and_body_only_and_tells_them_apart():
    assert block_uid("a", "bc") == block_uid("a", "bc") < 2**64
    assert len({block_uid("a", "bc"), block_uid("ab", "c"), block_uid("", "abc")}) == 3
