"""Which blocks of a beam are read."""

import numpy as np

from realm_jax.data.questions import Occurrences, QuestionRows
from realm_jax.runs.question_inputs import QuestionInputs
from realm_jax.types import NO_BLOCK, Blocks, Rows, Search

FOUND = np.array([[4, 2, 7, 5], [1, 3, 0, NO_BLOCK]], np.int32)
HOLDS = {7, 5, 3}  # blocks with an answer


class Corpus:
    duplicate_of = np.arange(10, dtype=np.int32)

    def gather(self, ids):
        rows = Rows(ids=np.zeros((*ids.shape, 3), np.int32), length=np.ones(ids.shape, np.int32))
        return Blocks(title=rows, body=rows)


class Retriever:
    def embed(self, params, rows):
        return None

    def search(self, rows, embedded, k):
        return Search(scores=-np.arange(8, dtype=np.float32).reshape(2, 4), block_ids=FOUND)

    def beam_values(self, chosen):
        return {"scores": chosen.scores}


def read(positives_first):
    """Return the blocks of both beams, in order, and those that are read."""
    seen = []

    def answers(step, rows, candidates):
        seen.append(candidates.block_ids)
        none = np.zeros((*candidates.block_ids.shape, 1), np.int32)
        holds = np.isin(candidates.block_ids, list(HOLDS))
        return rows.question, candidates, Occurrences(none, none, none > 0, holds)

    inputs = QuestionInputs(
        Retriever(),
        Corpus(),
        answers=answers,
        beam_answers=lambda numbers, ids: np.isin(ids, list(HOLDS)),
        candidates=2,
        beam=4,
        extra=0,
        positives_first=positives_first,
    )
    question = Rows(ids=np.zeros((2, 5), np.int32), length=np.full(2, 5, np.int32))
    rows = QuestionRows(question, np.arange(2, dtype=np.int32))
    _, candidates, beam = inputs.finish(0, rows, None)
    np.testing.assert_array_equal(candidates.block_ids, seen[0])
    return beam, candidates.block_ids


def test_the_best_are_read_and_the_beam_keeps_its_order():
    beam, chosen = read(positives_first=False)
    np.testing.assert_array_equal(chosen, FOUND[:, :2])
    np.testing.assert_array_equal(beam.has_answer, [[0, 0, 1, 1], [0, 1, 0, 0]])
    np.testing.assert_array_equal(beam.is_valid, [[1, 1, 1, 1], [1, 1, 1, 0]])


def test_blocks_with_an_answer_are_read_first_and_scores_go_with_their_blocks():
    beam, chosen = read(positives_first=True)
    np.testing.assert_array_equal(chosen, [[7, 5], [3, 1]])
    np.testing.assert_array_equal(beam.has_answer, [[1, 1, 0, 0], [1, 0, 0, 0]])
    np.testing.assert_array_equal(beam.is_valid, [[1, 1, 1, 1], [1, 1, 1, 0]])
    np.testing.assert_array_equal(beam.scores[0], [-2, -3, 0, -1])
