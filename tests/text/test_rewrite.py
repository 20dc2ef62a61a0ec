"""Rewritten evidence: what is replaced, what stays together, what is left out."""

import numpy as np
import pytest

from realm_jax.text.rewrite import rewrite_evidence
from realm_jax.text.swap import SpanPool
from realm_jax.types import NO_BLOCK, Blocks, Candidates, Rows

CLS, SEP, STOP = 2, 3, 4
WORDS = range(5, 10)  # never replaced
NAMES, TITLES = range(10, 40), range(40, 60)  # kinds 0 and 1 of the pool
BODY = np.array([5, 40, 6, 10, STOP, 7, 11, STOP, 8, 12, STOP, SEP], np.int32)
WIDTH, LENGTH = 24, 8


class Corpus:
    """Blocks of three sentences on title 40 + i; block 0 is BODY, the others have names of their own."""

    def __len__(self):
        return 5

    def title(self, block_id):
        return np.array([40 + block_id], np.int32)

    def body(self, block_id):
        row = BODY.copy()
        row[[1, 3, 6, 9]] += np.array([1, 3, 3, 3]) * block_id
        return row.astype(np.int32)

    def sentences(self, block_id):
        return np.array([[0, 5], [5, 8], [8, 11]], np.int32)

    def spans(self, block_id):
        return np.array([[3, 4, 0], [6, 7, 0], [9, 10, 0]], np.int32)


def pool():
    spans = [np.array([name], np.int32) for name in [*NAMES, *TITLES]]
    kinds = np.array([0] * len(NAMES) + [1] * len(TITLES), np.int32)
    return SpanPool(spans, kinds, is_continuation=np.zeros(100, bool))


def candidates_of(count, block_id=0):
    ids = np.zeros((count, 1, WIDTH), np.int32)
    ids[..., : len(BODY)] = Corpus().body(block_id)
    block_ids = np.full((count, 1), block_id, np.int32)
    title = np.tile(np.array([CLS, 40, SEP], np.int32), (count, 1, 1))
    return Candidates(
        block_ids=block_ids,
        blocks=Blocks(
            title=Rows(ids=title, length=np.full((count, 1), 3, np.int32)),
            body=Rows(ids=ids, length=np.full((count, 1), len(BODY), np.int32)),
        ),
        is_null=np.zeros((count, 1), bool),
        is_valid=np.ones((count, 1), bool),
    )


def rewritten(count, *, candidates=None, answer=11, probability=1.0, drop=0.0, strangers=0, seed=0):
    """Ask "9 40" [count] times; the answer is name 11, in the second sentence."""
    question = np.zeros((count, LENGTH), np.int32)
    question[:, :4] = [CLS, 9, 40, SEP]
    return rewrite_evidence(
        Rows(ids=question, length=np.full(count, 4, np.int32)),
        candidates or candidates_of(count),
        [[np.array([answer], np.int32)]] * count,
        pool(),
        corpus=Corpus(),
        rng=np.random.default_rng(seed),
        probability=probability,
        drop=drop,
        strangers=strangers,
        max_length=4,
    )


def sentences_of(told):
    """Cut bodies at their full stops: lists of token lists, without [SEP]."""
    body = told.candidates.blocks.body
    rows = [body.ids[b, 0, : body.length[b, 0]].tolist() for b in range(len(body.ids))]
    assert all(row[-1] == SEP and not any(body.ids[b, 0, len(row) :]) for b, row in enumerate(rows))
    cut = []
    for row in rows:
        ends = [place + 1 for place, token in enumerate(row) if token == STOP]
        cut.append([row[i:j] for i, j in zip([0, *ends[:-1]], ends, strict=True)])
    return cut


def test_a_name_is_the_same_in_question_and_body_and_the_answer_goes_with_it():
    told = rewritten(50)
    for b, sentences in enumerate(sentences_of(told)):
        answer = int(told.answers[b][0][0])
        title = int(told.question.ids[b, 2])
        assert answer in NAMES and answer != 11 and title in TITLES and title != 40
        assert [7, answer, STOP] in sentences
        assert any(s[:3] == [5, title, 6] for s in sentences)
        assert told.question.ids[b, :4].tolist() == [CLS, 9, title, SEP]
        assert [8, 12, STOP] not in sentences and not any(s[0] == 5 and s[3] == 10 for s in sentences)


def test_sentences_change_places_and_none_is_lost():
    told = rewritten(200, probability=0.0)
    orders = [[s[0] for s in sentences] for sentences in sentences_of(told)]
    assert all(sorted(order) == [5, 7, 8] for order in orders)
    assert len({tuple(order) for order in orders}) == 6  # all orders come up


def test_probability_0_replaces_nothing():
    told = rewritten(20, probability=0.0)
    whole = [[5, 40, 6, 10, STOP], [7, 11, STOP], [8, 12, STOP]]
    assert all(sorted(sentences) == whole for sentences in sentences_of(told))
    assert all(answer[0].tolist() == [11] for answer in told.answers)


def test_every_span_and_the_title_is_replaced_with_the_same_probability():
    count, probability = 2000, 0.7
    told = rewritten(count, probability=probability)
    flat = [sum(sentences, []) for sentences in sentences_of(told)]
    for name in (10, 11, 12, 40):
        kept = np.mean([name in row for row in flat])
        # Another name may be replaced by this one: at most 3 of 30 names.
        np.testing.assert_allclose(kept, 1 - probability, atol=0.1 + 4 * np.sqrt(0.7 * 0.3 / count))
    asked = np.mean([int(answer[0][0]) != 11 for answer in told.answers])
    np.testing.assert_allclose(asked, probability, atol=4 * np.sqrt(0.7 * 0.3 / count))


def test_sentences_without_the_answer_are_dropped_and_the_one_with_it_never():
    count, drop = 2000, 0.4
    kept = [len(sentences) - 1 for sentences in sentences_of(rewritten(count, drop=drop))]
    np.testing.assert_allclose(np.mean(kept), 2 * (1 - drop), atol=4 * np.sqrt(2 * 0.4 * 0.6 / count))
    assert all([7, 11, STOP] in s for s in sentences_of(rewritten(50, drop=1.0, probability=0.0)))


def test_strangers_are_told_of_the_same_title_and_fill_the_room_there_is():
    told = rewritten(100, drop=1.0, strangers=20)
    for b, sentences in enumerate(sentences_of(told)):
        title = int(told.question.ids[b, 2])
        assert len(sentences) > 3
        assert all(s[1] == title for s in sentences if s[0] == 5)
    assert (told.candidates.blocks.body.length <= WIDTH).all()


@pytest.mark.parametrize("why", ["no answer", "invalid", "null block"])
def test_a_row_without_an_answer_is_left_as_it_is(why):
    candidates = candidates_of(3)
    if why == "invalid":
        candidates = candidates.replace(is_valid=np.zeros((3, 1), bool))
    if why == "null block":
        candidates = candidates.replace(block_ids=np.full((3, 1), NO_BLOCK, np.int32))
    told = rewritten(3, candidates=candidates, answer=39 if why == "no answer" else 11)
    np.testing.assert_array_equal(told.candidates.blocks.body.ids, candidates.blocks.body.ids)
    assert told.question.ids[:, 2].tolist() == [40] * 3


def test_arguments_stay_as_they_were_and_a_seed_repeats_itself():
    candidates = candidates_of(4)
    before = candidates.blocks.body.ids.copy()
    first, second = (rewritten(4, candidates=candidates, drop=0.5, strangers=3, seed=7) for _ in range(2))
    np.testing.assert_array_equal(candidates.blocks.body.ids, before)
    np.testing.assert_array_equal(first.candidates.blocks.body.ids, second.candidates.blocks.body.ids)
