"""Answer questions, and show which block each answer came from."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np

from realm_jax.config import RetrieverName
from realm_jax.errors import CheckpointError, ConfigError
from realm_jax.inspect.loaded import LoadedRun
from realm_jax.inspect.pairs import best_span_of_each
from realm_jax.inspect.retrieve import read_candidates, search, text_rows
from realm_jax.types import NO_BLOCK, Search

READ_AT_ONCE = 512  # questions whose pairs are put in order of length together


@dataclass(frozen=True)
class Evidence:
    """A block that was read, and the best answer in it."""

    block_id: int
    document_id: str
    title: str
    text: str
    score: float  # relevance, f(x, z) or BM25
    retrieval_probability: float  # p(z|x) over the blocks read
    answer: str
    answer_probability: float  # of this span among all spans of all blocks read
    span: tuple[int, int]  # first and last token in the body


@dataclass(frozen=True)
class Answer:
    """The most probable answer; without one, `text` is empty and `probability` 0."""

    question: str
    text: str
    probability: float
    block_id: int  # where it stands, or NO_BLOCK
    span: tuple[int, int] | None  # first and last token in the block's body
    evidence: tuple[Evidence, ...]  # in the order of retrieval


def answer_questions(
    run: LoadedRun,
    questions: Sequence[str],
    *,
    retriever: RetrieverName | None = None,
    candidates: int | None = None,
    found: Search | None = None,
) -> list[Answer]:
    """Answer questions with the span reader.

    Args:
      run: a fine-tuned run.
      questions: n of them.
      retriever: where blocks come from: `model`, `bm25`, or `null` for the null block alone, in which no
        answer can stand; None takes the one the run was fine-tuned with.
      candidates: blocks read for each question; None reads as many as in training.
      found: search results `[n, k]`, if they are there already.

    Returns:
      n answers; which questions are asked together does not matter, nor, but for rounding (which in bfloat16
      may order near ties otherwise), does `run.batch_size`.

    Raises:
      CheckpointError: the reader of this run was never trained.
      ConfigError: no question, a blank one, or no candidates.
    """
    require_reader(run)
    if not questions or not all(question.strip() for question in questions):
        raise ConfigError("a question is a text", got="a blank one or none", remedy="Write the question.")
    count = run.config.qa.candidates if candidates is None else candidates
    if count < 1:
        raise ConfigError("at least 1 block is read", got=count, remedy="5 is usual.")
    if found is None:
        k = count + run.config.index.extra
        found = search(run, questions, retriever=retriever or run.own_retriever, k=k)
    rows = text_rows(run, questions)
    answers: list[Answer] = []
    for start in range(0, len(questions), READ_AT_ONCE):
        part = slice(start, start + READ_AT_ONCE)
        batch, results = (jax.tree.map(lambda leaf, part=part: leaf[part], tree) for tree in (rows, found))
        chosen, scores = read_candidates(run, results, count=count)
        spans, probability = best_span_of_each(run, batch, chosen, scores)
        answered = (probability > 0) & (chosen.block_ids != NO_BLOCK)
        places = np.concatenate([chosen.block_ids[answered][:, None], spans[answered]], axis=1)
        texts = np.full(answered.shape, "", object)
        texts[answered] = run.corpus.answer_texts([tuple(place) for place in places.tolist()])
        arrays = (chosen.block_ids, chosen.is_valid, scores, spans, probability, texts)
        for row, question in enumerate(questions[part]):
            answers.append(_answer(run, question, *(array[row] for array in arrays)))
    return answers


def require_reader(run: LoadedRun) -> None:
    """Refuse a run whose reader is as it was made.

    Raises:
      CheckpointError: the run was not fine-tuned.
    """
    if run.phase != "qa":
        raise CheckpointError(
            "answers come from a fine-tuned run",
            got=f"{run.folder}, a run of phase {run.phase} with an untrained reader",
            remedy=f"Fine-tune it: realm_jax finetune --start-from {run.folder} ...",
        )


def _answer(
    run: LoadedRun,
    question: str,
    block_ids: np.ndarray,
    is_valid: np.ndarray,
    scores: np.ndarray,
    spans: np.ndarray,
    probability: np.ndarray,
    texts: np.ndarray,
) -> Answer:
    """Put one question's result into words."""
    weights = np.where(is_valid, np.exp(scores - scores[is_valid].max()), 0.0)
    weights = weights / weights.sum()
    evidence = []
    for place in np.flatnonzero(block_ids != NO_BLOCK).tolist():
        block_id = int(block_ids[place])
        text = run.corpus.text(block_id)
        evidence.append(
            Evidence(
                block_id=block_id,
                document_id=text.document_id,
                title=text.title,
                text=text.body,
                score=float(scores[place]),
                retrieval_probability=float(weights[place]),
                answer=texts[place],
                answer_probability=float(probability[place]),
                span=(int(spans[place, 0]), int(spans[place, 1])),
            )
        )
    best = max(evidence, key=lambda one: one.answer_probability, default=None)
    if best is None or best.answer_probability == 0:
        return Answer(question, "", 0.0, NO_BLOCK, None, tuple(evidence))
    return Answer(question, best.answer, best.answer_probability, best.block_id, best.span, tuple(evidence))
