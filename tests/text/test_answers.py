"""Answers: normalisation and matching against the published evaluation, and spans of token ids."""

import gzip
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_jax.text.answers import (
    exact_match,
    has_answer_words,
    normalize_answer,
    span_starts,
    spellings,
    words,
)
from realm_jax.text.regex import RegexMatcher
from tests.shared_data import shared_path


def test_agrees_with_the_answer_oracle():
    oracle = json.loads(shared_path("oracles", "answer_match.json").read_text())
    with RegexMatcher() as matcher:
        for case in oracle["cases"]:
            if case["is_regex"]:
                assert matcher.match(case["prediction"], case["references"]) == case["correct"], case
                continue
            assert exact_match(case["prediction"], case["references"]) == case["correct"], case
            assert normalize_answer(case["prediction"]) == case["normalized_prediction"], case
            assert [normalize_answer(r) for r in case["references"]] == case["normalized_references"], case


@given(st.text())
def test_normalising_twice_changes_nothing_more_than_articles(text):
    # Deleting a comma can make an article ("a,n"), so the second pass may delete more, but never add.
    once = normalize_answer(text)
    assert len(normalize_answer(once)) <= len(once)
    assert once == once.strip() and "  " not in once


def test_words_are_runs_of_letters_and_digits():
    assert words("Caf\u00e9-au_lait, 1.5\u00a0M!") == ["cafe", "au", "lait", "1", "5", "m"]
    assert words("\u2014 !") == []


@pytest.mark.parametrize(
    ("text", "answers", "expected"),
    [
        ("He lived in New-York City.", ["new york"], True),
        ("He lived in Newark.", ["new"], False),
        ("in 1,969 days", ["1969", "69 days"], False),
        ("Beyonc\u00e9 sang", ["beyonce"], True),
        ("anything", ["", "!"], False),
        ("anything", [], False),
    ],
)
def test_answers_in_texts_are_whole_words(text, answers, expected):
    assert has_answer_words(words(text), map(words, answers)) is expected


def test_gold_passages_of_the_development_set_hold_their_answers():
    questions = [json.loads(line) for line in shared_path("data/wiki_nq_mini/qa_dev.jsonl").open()][:300]
    wanted = {i for q in questions for i in q["gold_passage_ids"]}
    with gzip.open(shared_path("data/wiki_nq_mini/corpus.jsonl.gz"), "rt") as file:
        texts = {i: json.loads(line)["text"] for i, line in enumerate(file) if i in wanted}
    for question in questions:
        answers = [words(answer) for answer in question["answers"]]
        assert all(has_answer_words(words(texts[i]), answers) for i in question["gold_passage_ids"])


def test_spans_may_overlap_and_an_answer_that_is_empty_or_longer_than_the_body_has_none():
    assert np.flatnonzero(span_starts(np.array([5, 5, 5, 1]), np.array([5, 5]))).tolist() == [0, 1]
    assert not span_starts(np.array([1, 2]), np.array([1, 2, 3])).any()
    assert not span_starts(np.array([1, 2]), np.array([], np.int64)).any()


ids = st.lists(st.integers(0, 2), max_size=9).map(lambda row: np.array(row, np.int32))


@given(st.lists(st.lists(st.integers(0, 2), min_size=7, max_size=7), min_size=1, max_size=4), ids)
def test_many_bodies_at_once_equal_one_by_one_and_plain_slices(bodies, answer):
    matrix = np.array(bodies, np.int32)
    starts = span_starts(matrix, answer)
    for body, row in zip(matrix, starts, strict=True):
        width = len(answer)
        slices = [i for i in range(7) if width and body[i : i + width].tolist() == answer.tolist()]
        assert np.flatnonzero(row).tolist() == slices


def test_answers_are_written_in_the_cases_of_texts():
    written = spellings(["the Big Apple", "IBM"])
    assert written[:2] == ["the Big Apple", "IBM"] and len(written) == len(set(written))
    assert {"the big apple", "The big apple", "The Big Apple", "THE BIG APPLE", "ibm", "Ibm"} <= set(written)
