"""Rewritten evidence: other answers, other names, other company, so that only reading helps.

A reader that meets an answer often enough learns the answer; one that meets a block often enough learns which
of its sentences are asked about, whatever the question. Either way it does not learn to read. Here a question
and its blocks are told anew each time: salient spans, the answer among them, and the title are replaced by
others of their kind, the same by the same in question and blocks; sentences without the answer are left out,
sentences of other blocks come in, told of the same title; and all change places.

Source: entity substitution as in Longpre et al. 2021, there for evaluation; the rest is to texts what
cropping and mixing are to images.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np

from realm_jax.text.packing import cut_row, pack_rows
from realm_jax.text.swap import SpanPool, replace_runs
from realm_jax.types import NO_BLOCK, Candidates, Rows


class BlockParts(Protocol):
    """What is needed of a corpus."""

    def __len__(self) -> int: ...

    def title(self, block_id: int) -> np.ndarray:
        """Return int32 `[m]`, the title's tokens."""
        ...

    def body(self, block_id: int) -> np.ndarray:
        """Return int32 `[n]`, the body's tokens and [SEP]."""
        ...

    def sentences(self, block_id: int) -> np.ndarray:
        """Return int32 `[S, 2]`, sentences: start, stop."""
        ...

    def spans(self, block_id: int) -> np.ndarray:
        """Return int32 `[P, 3]`, salient spans: start, stop, kind."""
        ...


class Rewritten(NamedTuple):
    """Questions and blocks as they are told this time."""

    question: Rows  # [B, L]
    candidates: Candidates  # [B, K, ...]; titles stay
    answers: list[list[np.ndarray]]  # token ids of the answers that go with them


def rewrite_evidence(
    question: Rows,
    candidates: Candidates,
    answers: Sequence[Sequence[np.ndarray]],
    pool: SpanPool,
    *,
    corpus: BlockParts,
    rng: np.random.Generator,
    probability: float,
    drop: float,
    strangers: int,
    max_length: int,
) -> Rewritten:
    """Tell questions and blocks anew.

    A row of which no answer stands in a valid candidate is left as it is.

    Args:
      question: rows `[B, L]`, [CLS] question [SEP]; NumPy arrays.
      candidates: `[B, K, ...]`, bodies as the corpus has them; NumPy arrays.
      answers: B lists of answers, token ids int [m] each; the first that stands in a candidate is asked for.
      pool: where replacements come from; best with the answers and titles in it.
      corpus: the blocks.
      rng: source of all choices.
      probability: of a span, a title or an answer being replaced.
      drop: of a sentence without the answer being left out.
      strangers: sentences of other blocks that are tried; those that fit come in, told of the same title.
      max_length: longest replacement of an answer, tokens.

    Returns:
      New questions, candidates and answers; the arguments stay unchanged.
    """
    shape, width = candidates.block_ids.shape, candidates.blocks.body.ids.shape[-1]
    ids, lengths = candidates.blocks.body.ids, candidates.blocks.body.length
    bodies = [[ids[b, k, : lengths[b, k]] for k in range(shape[1])] for b in range(shape[0])]
    questions = [question.ids[b, : question.length[b]] for b in range(shape[0])]
    renewed = [list(runs) for runs in answers]
    for b, row in enumerate(bodies):
        use = np.flatnonzero(candidates.is_valid[b] & (candidates.block_ids[b] != NO_BLOCK)).tolist()
        asked = next((run for run in answers[b] if any(len(pool.places(row[k], run)) for k in use)), None)
        if asked is None:
            continue
        telling = _Telling(pool, rng, probability=probability)
        new = telling.replacement(asked, pool.kind(asked), max_length=max_length)
        for k in use:
            block_id = int(candidates.block_ids[b, k])
            told = telling.sentences(corpus, block_id, asked)
            told = [(text, holds) for text, holds in told if holds or rng.random() >= drop]
            name = telling.replacement(corpus.title(block_id), None, max_length=max_length)
            room = width - 1 - sum(len(text) for text, _ in told)
            told += _strangers(
                corpus, pool, rng, name=name, room=room, tries=strangers, probability=probability
            )
            order = rng.permutation(len(told)).tolist()
            row[k] = np.concatenate([*(told[place][0] for place in order), row[k][-1:]])
        questions[b] = telling.retell(questions[b])
        renewed[b] = [new]
    packed = pack_rows([cut_row(body, width) for row in bodies for body in row], length=width)
    longest = question.ids.shape[-1]
    body = Rows(ids=packed.ids.reshape(*shape, width), length=packed.length.reshape(shape))
    return Rewritten(
        pack_rows([cut_row(row, longest) for row in questions], length=longest),
        replace(candidates, blocks=replace(candidates.blocks, body=body)),
        renewed,
    )


class _Telling:
    """What is replaced by what, in one row."""

    def __init__(self, pool: SpanPool, rng: np.random.Generator, *, probability: float):
        self._pool, self._rng, self._probability = pool, rng, probability
        self.chosen: dict[bytes, np.ndarray] = {}

    def replacement(self, span: np.ndarray, kind: int | None, *, max_length: int) -> np.ndarray:
        """Return what a span is replaced by in this row: itself, if it is to stay."""
        span = span.astype(np.int32)
        key = span.tobytes()
        if key not in self.chosen:
            drawn = None
            if self._rng.random() < self._probability:
                kind = self._pool.kind(span) if kind is None else kind
                drawn = self._pool.draw(span, self._rng, kind=kind, max_length=max_length)
            self.chosen[key] = span if drawn is None else drawn
        return self.chosen[key]

    def sentences(
        self, corpus: BlockParts, block_id: int, asked: np.ndarray | None
    ) -> list[tuple[np.ndarray, bool]]:
        """Tell the sentences of a block, and say which of them hold what is asked for."""
        body, spans = corpus.body(block_id), corpus.spans(block_id)
        title = corpus.title(block_id)
        found = (
            [] if asked is None else [(i, i + len(asked)) for i in self._pool.places(body, asked).tolist()]
        )
        hits = len(found)
        found += [(i, i + len(title)) for i in self._pool.places(body, title).tolist()]
        kinds = [None] * len(found) + spans[:, 2].tolist()
        taken, edits = np.zeros(len(body), bool), []
        for place, (start, stop) in enumerate(found + spans[:, :2].tolist()):
            if not taken[start:stop].any():
                taken[start:stop] = True
                span = body[start:stop]
                new = self.replacement(span, kinds[place], max_length=len(span) + 1)
                edits.append((start, stop, new, place < hits))
        edits.sort(key=lambda edit: edit[0])
        told = []
        for start, stop in corpus.sentences(block_id).tolist():
            inside = [edit for edit in edits if start <= edit[0] and edit[1] <= stop]
            text = replace_runs(body[start:stop], [(i - start, j - start, new) for i, j, new, _ in inside])
            told.append((text, any(hit for *_, hit in inside)))
        return told

    def retell(self, row: np.ndarray) -> np.ndarray:
        """Replace in a question what was replaced in its blocks, the longest first, nothing twice."""
        edits: list[tuple[int, int, np.ndarray]] = []
        taken = np.zeros(len(row), bool)
        for key, new in sorted(self.chosen.items(), key=lambda item: -len(item[0])):
            old = np.frombuffer(key, np.int32)
            for start in self._pool.places(row, old).tolist():
                if not taken[start : start + len(old)].any():
                    taken[start : start + len(old)] = True
                    edits.append((start, start + len(old), new))
        return replace_runs(row, sorted(edits, key=lambda edit: edit[0]))


def _strangers(
    corpus: BlockParts,
    pool: SpanPool,
    rng: np.random.Generator,
    *,
    name: np.ndarray,
    room: int,
    tries: int,
    probability: float,
) -> list[tuple[np.ndarray, bool]]:
    """Draw sentences of any blocks, told of `name` instead of their own titles, as long as there is room."""
    drawn = []
    for _ in range(tries):
        block_id = int(rng.integers(len(corpus)))
        telling = _Telling(pool, rng, probability=probability)
        telling.chosen[corpus.title(block_id).astype(np.int32).tobytes()] = name
        told = telling.sentences(corpus, block_id, None)
        text = told[int(rng.integers(len(told)))][0] if told else name[:0]
        if 0 < len(text) <= room:
            room -= len(text)
            drawn.append((text, False))
    return drawn
