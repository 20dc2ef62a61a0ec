"""Right or wrong, and the rank of the first block with the answer or of a gold document."""

import json
import re
import unicodedata
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realm_jax.data.corpus import Corpus
from realm_jax.data.prepare import prepare
from realm_jax.data.questions import Question
from realm_jax.evaluate.answers import (
    NOT_FOUND,
    answer_ranks,
    gold_ranks,
    is_correct,
    is_readable,
    recall_at,
)
from realm_jax.text.answers import whole_character
from realm_jax.text.regex import RegexMatcher
from realm_jax.types import NO_BLOCK

TEXTS = {
    "a": "Radium was found by Marie Curie in 1898.",
    "b": "The Seine flows through Paris.",
    "c": "Curie worked in Paris; the café was near.",
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    rows = [{"id": name, "title": "Title Warsaw", "text": text} for name, text in TEXTS.items()]
    (folder / "docs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare([folder / "docs.jsonl"], folder / "out", vocab_size=200, workers=1)
    return Corpus.open(folder / "out")


@pytest.fixture(scope="module")
def matcher() -> Iterator[RegexMatcher]:
    with RegexMatcher() as started:
        yield started


def question(*answers: str, regex: bool = False, gold: tuple[str, ...] = ()) -> Question:
    return Question("id", "who?", answers, regex, gold)


def test_strings_match_after_normalisation_and_patterns_at_the_beginning():
    with RegexMatcher() as matcher:
        assert is_correct("the  Marie Curie!", question("Marie Curie"), matcher=matcher)
        assert not is_correct("Marie", question("Marie Curie"), matcher=matcher)
        assert is_correct("July 4, 1898", question(r"July \d+", regex=True), matcher=matcher)
        assert not is_correct("on July 4", question(r"July \d+", regex=True), matcher=matcher)


def test_an_empty_prediction_is_never_right_even_against_an_answer_that_normalises_to_nothing():
    with RegexMatcher() as matcher:
        assert not is_correct("", question("the"), matcher=matcher)
        assert not is_correct("", question(".*", regex=True), matcher=matcher)


def test_the_rank_is_that_of_the_first_body_with_the_answer(corpus):
    ids = np.array([[1, 0, 2], [NO_BLOCK, 2, 1], [1, NO_BLOCK, NO_BLOCK], [0, 1, 2], [0, 1, 2], [0, 1, 2]])
    asked = [
        question("Marie Curie"),  # in block 0, second
        question("cafe"),  # accents do not matter
        question("Curie"),  # not in block 1
        question("nobody", "Paris"),  # any of the answers
        question("Warsaw"),  # in titles only
        question("Par"),  # not a whole word
    ]
    with RegexMatcher() as matcher:
        ranks = answer_ranks(corpus, ids, asked, matcher=matcher)
    assert ranks.tolist() == [1, 1, NOT_FOUND, 1, NOT_FOUND, NOT_FOUND]


def test_patterns_are_searched_for_anywhere_in_the_body(corpus):
    with RegexMatcher() as matcher:
        ranks = answer_ranks(corpus, np.array([[1, 0]]), [question(r"18\d\d", regex=True)], matcher=matcher)
    assert ranks.tolist() == [1]


def test_gold_is_known_by_document_id(corpus):
    ids = np.array([[1, 0], [1, 0], [NO_BLOCK, 2]])
    asked = [question("x", gold=("a", "c")), question("x"), question("x", gold=("c",))]
    assert gold_ranks(corpus, ids, asked).tolist() == [1, NOT_FOUND, 1]


def test_recall_counts_ranks_below_k():
    ranks = np.array([0, 4, 5, NOT_FOUND])
    assert recall_at(ranks, 1).tolist() == [1, 0, 0, 0]
    assert recall_at(ranks, 5).tolist() == [1, 1, 0, 0]
    assert recall_at(ranks, 100).tolist() == [1, 1, 1, 0]


WORDS = ["the", "Bow", "bow", "street", "St.", "U.S.", "a", "(an)", "caf\u00e9", "1,000", "x-ray", "?"]
WORDS += ["cafe\u0301", "Vi\u00ea\u0323t", "Vi\u1ec7t"]  # accents behind a letter, two in either order


@given(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join),
    st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join), min_size=1, max_size=2),
    st.integers(1, 4),
    st.integers(1, 9),
    st.booleans(),
)
@settings(deadline=None, max_examples=150)
def test_a_question_is_readable_if_some_span_is_right(corpus, matcher, text, answers, width, seen, regex):
    """By trying all spans, with the accents of their last character."""
    asked = question(*(re.escape(a) for a in answers) if regex else answers, regex=regex)
    offsets = corpus.tokenizer.encode(text, special_tokens=False).offsets[:seen]
    expected = any(
        is_correct(text[offsets[i, 0] : whole_character(text, offsets[j, 1])], asked, matcher=matcher)
        for i in range(len(offsets))
        for j in range(i, min(i + width, len(offsets)))
    )
    assert is_readable(text, offsets, asked, max_width=width, matcher=matcher) == expected


@pytest.mark.parametrize("pattern", [r"Susan.*Anthony", r"^Susan B\.$", r"Susan\b(?! An)"])
def test_expressions_that_match_further_on_too_are_readable(corpus, matcher, pattern):
    text = "Susan B. Anthony led, with many friends in many towns, and then Susan Anthony died."
    offsets = corpus.tokenizer.encode(text, special_tokens=False).offsets
    width = len(corpus.tokenizer.encode("Susan B. Anthony").ids)
    assert is_readable(text, offsets, question(pattern, regex=True), max_width=width, matcher=matcher)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("answer", ["Garc\u00eda M\u00e1rquez", "Pel\u00e9", "the (an) R\u00edo an"])
def test_what_exact_match_takes_for_an_article_behind_an_accent(corpus, matcher, answer, form):
    text, answer = (unicodedata.normalize(form, t) for t in (f"It is {answer} again.", answer))
    offsets = corpus.tokenizer.encode(text, special_tokens=False).offsets
    assert is_readable(text, offsets, question(answer), max_width=len(offsets), matcher=matcher)


def test_articles_and_punctuation_cost_no_width(corpus):
    text = "He met (the) Marie Curie, of Paris."
    offsets = corpus.tokenizer.encode(text, special_tokens=False).offsets
    needed = len(corpus.tokenizer.encode("Marie Curie").ids)
    with RegexMatcher() as matcher:
        for width, expected in ((needed, True), (needed - 1, False)):
            asked = question("The Marie-Curie", "the Marie Curie")
            assert is_readable(text, offsets, asked, max_width=width, matcher=matcher) == expected
