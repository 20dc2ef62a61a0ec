"""Answers in thousands of blocks: against a plain search, and against the texts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realm_jax.data.beam import PatternAnswers, beam_has_answer
from realm_jax.data.questions import Question, regex_occurrences
from realm_jax.text.regex import RegexMatcher
from realm_jax.types import NO_BLOCK
from tests.data.conftest import answer_occurrences

SEP, GOES_ON = 9, 4  # token 4 goes on a word, token 0 is unknown or padding
cells = st.integers(0, 4)
ids = st.lists(st.lists(st.integers(NO_BLOCK, 2), min_size=3, max_size=3), min_size=2, max_size=2)
runs = st.lists(st.lists(cells, min_size=1, max_size=3), max_size=3)


@given(st.lists(st.lists(cells, max_size=5), min_size=3, max_size=3), ids, st.tuples(runs, runs))
@settings(deadline=None, max_examples=200)
def test_it_equals_a_plain_search(bodies, block_ids, answers):
    matrix = np.array([[*body, SEP, *[0] * (5 - len(body))] for body in bodies], np.uint16)
    goes_on = np.arange(10) == GOES_ON
    found = beam_has_answer(
        matrix,
        np.array(block_ids, np.int32),
        [[np.array(run, np.int32) for run in row] for row in answers],
        is_continuation=goes_on,
        unk_id=0,
    )

    def holds(block_id, run):
        row = matrix[block_id].tolist()
        return any(
            row[i : i + len(run)] == run and run[0] != GOES_ON and row[i + len(run)] != GOES_ON
            for i in range(len(row) - len(run))
        )

    for b, row in enumerate(block_ids):
        for r, block_id in enumerate(row):
            expected = block_id != NO_BLOCK and any(
                0 not in run and holds(block_id, run) for run in answers[b]
            )
            assert found[b, r] == expected


def test_an_answer_at_the_very_end_of_a_row_is_found_and_none_across_two_rows():
    matrix = np.array([[1, 2, 3], [3, 1, 2]], np.uint16)  # rows without [SEP]: not of a corpus
    found = beam_has_answer(
        matrix,
        np.array([[0, 1]] * 3),
        [[np.array(run, np.int32)] for run in ([2, 3], [3, 3], [1, 2])],
        is_continuation=np.zeros(10, bool),
        unk_id=0,
    )
    assert found.tolist() == [[True, False], [False, False], [True, True]]


def test_strings_are_found_where_their_occurrences_are(corpus):
    block_ids = np.stack([np.arange(len(corpus)), np.roll(np.arange(len(corpus)), 3)]).astype(np.int32)
    block_ids[0, 2] = NO_BLOCK
    answers, tokenizer = [["Paris", "Lima"], ["the", "xylophone"]], corpus.tokenizer
    runs = [[run.ids for run in tokenizer.encode_batch(texts, special_tokens=False)] for texts in answers]
    found = beam_has_answer(
        corpus.arrays["bodies"],
        block_ids,
        runs,
        is_continuation=tokenizer.is_continuation,
        unk_id=tokenizer.unk_id,
    )
    expected = answer_occurrences(corpus, block_ids, answers, max_spans=1).has_answer
    np.testing.assert_array_equal(found, expected)
    assert found.any() and not found.all()


def test_expressions_are_found_as_block_by_block_and_no_text_is_searched_twice(corpus, monkeypatch):
    questions = [Question("", "?", (r"pa\w+s", "lima"), True), Question("", "?", (r"19\d\d",), True)]
    rng = np.random.default_rng(0)
    with RegexMatcher() as matcher:
        answers = PatternAnswers(corpus, questions, matcher=matcher, max_spans=2)
        for _ in range(3):
            numbers = np.array([1, 0, 1], np.int32)
            block_ids = rng.integers(-1, len(corpus), (3, 6)).astype(np.int32)
            patterns = [questions[n].answers for n in numbers]
            expected = regex_occurrences(corpus, block_ids, patterns, matcher=matcher, max_spans=2)
            found = answers.occurrences(numbers, block_ids)
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_array_equal(one, other)
            np.testing.assert_array_equal(answers.has_answer(numbers, block_ids), expected.has_answer)
        assert expected.has_answer.any()
        monkeypatch.setattr(matcher, "search_all", pytest.fail)
        answers.occurrences(numbers, block_ids)
