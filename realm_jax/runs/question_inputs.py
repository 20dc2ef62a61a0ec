"""From questions to the inputs of a step: blocks found, answers found in them, a beam for the retriever.

Letters: B batch, K blocks that are read, R blocks of the beam, D embedding.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Protocol

import numpy as np

from realm_jax.data.corpus import Corpus
from realm_jax.data.questions import Occurrences, Question, QuestionRows
from realm_jax.hosts.rows import EVERY_ROW, BatchShare
from realm_jax.index.lexical import LexicalIndex
from realm_jax.index.retriever import choose_blocks
from realm_jax.runs.candidates import EmbedQueries, Timed
from realm_jax.runs.live_index import LiveIndex
from realm_jax.types import NO_BLOCK, Array, Beam, Candidates, Params, QuestionBatch, Rows, Search

# (steps done, questions [B], candidates [B, K]) -> questions and candidates as they are read, and where the
# answers stand in them
FindAnswers = Callable[[int, QuestionRows, Candidates], tuple[Rows, Candidates, Occurrences]]
# (places in the question set [B], block ids [B, R]) -> bool [B, R], an answer stands in the block
BeamAnswers = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Retriever(Protocol):
    """Finds the blocks of questions, and says how the step scores them."""

    def embed(self, params: Params, rows: QuestionRows) -> Array | None:
        """Start what needs the parameters."""
        ...

    def search(self, rows: QuestionRows, embedded: Array | None, k: int) -> Search:
        """Find the k best blocks `[B, k]`."""
        ...

    def beam_values(self, chosen: Search) -> dict[str, np.ndarray]:
        """Return the fields of `Beam` from which the step scores the blocks `[B, R]`."""
        ...


class IndexRetriever:
    """The run's own query embedder and index; the step gets the blocks' embeddings.

    Args:
      embed: from `query_embedder`.
      live: the index in use.
      timed: makes a context in which the index is searched.
      share: what this process reads of a batch.
    """

    def __init__(
        self,
        embed: EmbedQueries,
        live: LiveIndex,
        *,
        timed: Timed = nullcontext,
        share: BatchShare = EVERY_ROW,
    ):
        self._embed, self._live, self._timed, self._share = embed, live, timed, share

    def embed(self, params: Params, rows: QuestionRows) -> Array:
        return self._embed(params, self._share.own(rows.question))

    def search(self, rows: QuestionRows, embedded: Array | None, k: int) -> Search:
        del rows
        assert embedded is not None  # by `embed`
        queries = self._share.held(embedded)
        with self._timed():
            return self._share.drawn_of_own(self._live.current.index.search(queries, k))

    def beam_values(self, chosen: Search) -> dict[str, np.ndarray]:
        return {"embeddings": self._live.current.embeddings[np.maximum(chosen.block_ids, 0)]}


class LexicalRetriever:
    """BM25; the step gets its scores, and nothing of the retriever is trained.

    Args:
      questions: the whole set.
      index: of the corpus.
    """

    def __init__(self, questions: Sequence[Question], index: LexicalIndex):
        self._questions, self._index = questions, index

    def embed(self, params: Params, rows: QuestionRows) -> None:
        del params, rows

    def search(self, rows: QuestionRows, embedded: Array | None, k: int) -> Search:
        del embedded
        texts = [self._questions[number].question for number in rows.numbers.tolist()]
        return self._index.search_texts(texts, k)

    def beam_values(self, chosen: Search) -> dict[str, np.ndarray]:
        return {"scores": np.where(np.isfinite(chosen.scores), chosen.scores, 0.0).astype(np.float32)}


class QuestionInputs:
    """Turn a batch of questions into the step's inputs.

    Args:
      retriever: finds blocks.
      corpus: the blocks.
      answers: finds, and may swap, the answers in the blocks that are read.
      beam_answers: finds the further blocks with an answer.
      candidates: K.
      beam: R, at least K.
      extra: blocks searched beyond R, to replace duplicates.
      positives_first: of the beam, read the blocks with an answer before the others.
      share: what this process reads of a batch.
    """

    def __init__(
        self,
        retriever: Retriever,
        corpus: Corpus,
        *,
        answers: FindAnswers,
        beam_answers: BeamAnswers,
        candidates: int,
        beam: int,
        extra: int,
        positives_first: bool = False,
        share: BatchShare = EVERY_ROW,
    ):
        self._positives_first, self._share = positives_first, share
        self._retriever, self._corpus = retriever, corpus
        self._answers, self._beam_answers = answers, beam_answers
        self._candidates, self._beam, self._extra = candidates, beam, extra

    def begin(self, params: Params, rows: QuestionRows) -> Array | None:
        """Start to embed the questions."""
        return self._retriever.embed(params, rows)

    def finish(
        self, step: int, rows: QuestionRows, begun: Array | None
    ) -> tuple[QuestionBatch, Candidates, Beam]:
        """Return the batch, its candidates `[B, K]` and their beams `[B, R]`."""
        found = self._retriever.search(rows, begun, self._beam + self._extra)
        origin = np.full(len(rows.numbers), NO_BLOCK, np.int32)
        chosen = choose_blocks(found, self._corpus.duplicate_of, count=self._beam, origin=origin)
        if self._positives_first:
            holds = self._beam_answers(rows.numbers, chosen.block_ids)
            order = np.argsort(~holds, axis=1, kind="stable")
            ids, scores = (np.take_along_axis(x, order, axis=1) for x in (chosen.block_ids, chosen.scores))
            chosen = Search(scores=scores, block_ids=ids)
        read, further = np.split(chosen.block_ids, [self._candidates], axis=1)
        question, candidates, places = self._answers(step, rows, self._fetch(read))
        has_answer = places.has_answer
        if further.shape[1]:
            has_answer = np.concatenate([has_answer, self._beam_answers(rows.numbers, further)], axis=1)
        batch = QuestionBatch(
            question=question,
            answer_starts=places.starts,
            answer_stops=places.stops,
            answer_mask=places.mask,
            asked=rows.question,
        )
        values: dict[str, Any] = self._retriever.beam_values(chosen)
        beam = Beam(has_answer, chosen.block_ids != NO_BLOCK, **values)
        return self._share.own((batch, candidates, beam))

    def _fetch(self, block_ids: np.ndarray) -> Candidates:
        return Candidates(
            block_ids=block_ids,
            blocks=self._corpus.gather(block_ids),
            is_null=np.zeros(block_ids.shape, bool),
            is_valid=block_ids != NO_BLOCK,
        )
