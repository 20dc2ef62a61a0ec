"""Swapped answers, and the other spans that are swapped so that the answer does not stand out."""

import numpy as np

from realm_jax.text.swap import SpanPool, swap_answers
from realm_jax.types import Blocks, Candidates, Rows

SEP, FIRST = 3, 10  # spans are single tokens from FIRST on
NAMES = list(range(FIRST, FIRST + 50))
BODY = [5, FIRST, 6, FIRST + 1, 7, FIRST + 2, SEP]
SPANS = np.array([[1, 2, 0], [3, 4, 0], [5, 6, 0]], np.int32)


def pool() -> SpanPool:
    spans = [np.array([name], np.int32) for name in NAMES]
    return SpanPool(spans, np.zeros(len(spans), np.int32), is_continuation=np.zeros(100, bool))


def candidates_of(count: int) -> Candidates:
    ids = np.tile(np.array(BODY + [0], np.int32), (count, 1, 1))
    length = np.full((count, 1), len(BODY), np.int32)
    return Candidates(
        block_ids=np.zeros((count, 1), np.int32),
        blocks=Blocks(title=Rows(ids=ids[..., :2], length=length), body=Rows(ids=ids, length=length)),
        is_null=np.zeros((count, 1), bool),
        is_valid=np.ones((count, 1), bool),
    )


def questions_of(count: int, named: int) -> Rows:
    ids = np.tile(np.array([2, 5, named, SEP], np.int32), (count, 1))
    return Rows(ids=ids, length=np.full(count, 4, np.int32))


def swapped(count: int, *, probability: float, with_spans: bool, named: int = 6, seed: int = 0):  # noqa: ANN201
    answers = [[np.array([FIRST + 1], np.int32)]] * count
    return swap_answers(
        questions_of(count, named),
        candidates_of(count),
        answers,
        pool(),
        block_spans=(lambda block_id: SPANS) if with_spans else None,
        rng=np.random.default_rng(seed),
        probability=probability,
        max_length=4,
    )


def test_the_answer_and_its_place_in_the_body_change_together() -> None:
    candidates, answers = swapped(20, probability=1.0, with_spans=False)
    for body, (answer,) in zip(candidates.blocks.body.ids[:, 0], answers, strict=True):
        assert answer[0] != FIRST + 1 and body[3] == answer[0]
        np.testing.assert_array_equal(np.delete(body, 3), np.delete(BODY + [0], 3))


def test_probability_0_changes_nothing() -> None:
    candidates, answers = swapped(5, probability=0.0, with_spans=True)
    np.testing.assert_array_equal(candidates.blocks.body.ids, candidates_of(5).blocks.body.ids)
    assert all(answer[0] == FIRST + 1 for (answer,) in answers)


def test_every_span_is_replaced_with_the_same_probability() -> None:
    count, probability = 2000, 0.7
    candidates, answers = swapped(count, probability=probability, with_spans=True)
    bodies = candidates.blocks.body.ids[:, 0]
    changed = [(bodies[:, place] != BODY[place]).mean() for place in (1, 3, 5)]
    # Four standard errors of a share of 2000.
    np.testing.assert_allclose(changed, probability, atol=4 * np.sqrt(0.7 * 0.3 / count))
    np.testing.assert_array_equal(bodies[:, 3], [answer[0] for (answer,) in answers])
    np.testing.assert_array_equal(bodies[:, [0, 2, 4, 6]], np.tile([5, 6, 7, SEP], (count, 1)))


def test_a_span_that_the_question_names_stays() -> None:
    candidates, _ = swapped(50, probability=1.0, with_spans=True, named=FIRST + 2)
    assert (candidates.blocks.body.ids[:, 0, 5] == FIRST + 2).all()
    assert (candidates.blocks.body.ids[:, 0, 1] != FIRST).all()


def test_arguments_stay_as_they_were() -> None:
    before = candidates_of(3)
    kept = before.blocks.body.ids.copy()
    swap_answers(
        questions_of(3, 6),
        before,
        [[np.array([FIRST], np.int32)]] * 3,
        pool(),
        rng=np.random.default_rng(0),
        probability=1.0,
        max_length=4,
    )
    np.testing.assert_array_equal(before.blocks.body.ids, kept)
