"""Swapped facts: the masked span and its evidence replaced by another, so that only reading helps.

A model that meets "[MASK] is the capital of France" often enough answers from its weights and never learns
to read. Here the target (Paris) is replaced by a span of the same kind (Lima), in the query's targets and in
the candidate bodies alike: what the weights know is wrong, and what the block says is right. It is used as
a warm-up of the knowledge-augmented encoder.

Source: entity substitution as in Longpre et al. 2021, "Entity-Based Knowledge Conflicts in Question
Answering", there for evaluation.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from realm_jax.errors import ConfigError
from realm_jax.text.answers import span_starts
from realm_jax.text.packing import cut_row
from realm_jax.types import Candidates, MaskedBatch, Rows


class SpanPool:
    """The different salient spans of a corpus, by kind and length."""

    def __init__(self, spans: list[np.ndarray], kinds: np.ndarray, *, is_continuation: np.ndarray):
        """Sort spans into drawers.

        Args:
          spans: token ids int [m] each; repeated ones count once.
          kinds: int [P], the kind of each.
          is_continuation: bool [V], see `Tokenizer.is_continuation`.
        """
        self.is_continuation = is_continuation
        self._kind: dict[bytes, int] = {}
        drawers: dict[tuple[int, int], dict[bytes, None]] = {}
        for span, kind in zip(spans, kinds.tolist(), strict=True):
            if len(span) and not is_continuation[span[0]]:
                key = span.astype(np.int32).tobytes()
                if self._kind.setdefault(key, kind) == kind:
                    drawers.setdefault((kind, len(span)), {})[key] = None
        # Sorted, so that a draw depends on which spans there are and not on the order they came in.
        self._drawers = {name: sorted(keys) for name, keys in sorted(drawers.items())}

    def __len__(self) -> int:
        return len(self._kind)

    def kind(self, span: np.ndarray) -> int | None:
        """Return the kind of a span of the pool, or None."""
        return self._kind.get(span.astype(np.int32).tobytes())

    def places(self, row: np.ndarray, span: np.ndarray) -> np.ndarray:
        """Return where a span starts in a row [L] as whole words: int64 [n]."""
        if not 0 < len(span) <= len(row):
            return np.zeros(0, np.int64)
        return np.flatnonzero(_occurrences(row, span, self.is_continuation))

    def draw(
        self, span: np.ndarray, rng: np.random.Generator, *, kind: int | None, max_length: int
    ) -> np.ndarray | None:
        """Draw a different span: of the same number of tokens, or of the nearest that there is.

        Args:
          span: int [m], the one to be replaced.
          rng: source of the choice.
          kind: take spans of this kind only; None takes any.
          max_length: longest span taken.

        Returns:
          int32 [n], n <= max_length; None if there is no other span.
        """
        key, width = span.astype(np.int32).tobytes(), len(span)
        names = [name for name in self._drawers if kind in (None, name[0]) and name[1] <= max_length]
        for distance in sorted({abs(name[1] - width) for name in names}):
            drawers = [self._drawers[name] for name in names if abs(name[1] - width) == distance]
            ends = np.cumsum([len(drawer) for drawer in drawers])
            holds_span = distance == 0 and self.kind(span) is not None and kind in (None, self.kind(span))
            while ends[-1] > holds_span:  # there is another one: draw until it comes
                at = int(rng.integers(ends[-1]))
                drawer = int(np.searchsorted(ends, at, side="right"))
                drawn = drawers[drawer][at - int(ends[drawer])]
                if drawn != key:
                    return np.frombuffer(drawn, np.int32).copy()
        return None


BlockSpans = Callable[[int], np.ndarray]  # block id -> int32 [P, 3], salient spans: start, stop, kind


def swap_facts(
    batch: MaskedBatch,
    candidates: Candidates,
    pool: SpanPool,
    *,
    rng: np.random.Generator,
    probability: float,
    max_masks: int,
    mask_id: int,
    block_spans: BlockSpans,
) -> tuple[MaskedBatch, Candidates]:
    """Replace the masked span of some rows by another of its kind, in the targets and in the bodies.

    A row is left as it is unless its targets are one run of tokens, that run stands as whole words in the
    body of a valid candidate, and the new one still stands there after the row was cut to its width.
    The query gets as many [MASK] tokens as the new span has tokens; a further occurrence of the old span
    in the query is replaced too. Lengths may change; the final [SEP] stays.

    The other salient spans of the bodies are replaced with the same probability each, unless the query names
    them: otherwise the one span that was replaced is the one that does not fit its block, and to find it
    takes no reading of the query. Rows that are not drawn keep their masked span and are disguised too.

    Args:
      batch: the masked queries; NumPy arrays.
      candidates: what they are read with; NumPy arrays.
      pool: where replacements come from.
      rng: source of all choices.
      probability: of a row being swapped, where it can be.
      max_masks: longest replacement; at most M.
      mask_id: id of [MASK].
      block_spans: gives the salient spans of a block.

    Returns:
      New batch and candidates; the arguments stay unchanged.
    """
    most = batch.target_ids.shape[1]
    if max_masks > most:
        raise ConfigError(
            f"max_masks is at most the batch's {most} masked positions",
            got=max_masks,
            remedy="Lower max_masks, or build the stream with more.",
        )
    query_ids, query_length = batch.query.ids.copy(), batch.query.length.copy()
    positions, targets = batch.target_positions.copy(), batch.target_ids.copy()
    weights = batch.target_weights.copy()
    body_ids, body_length = candidates.blocks.body.ids.copy(), candidates.blocks.body.length.copy()
    drawn = rng.random(len(targets)) < probability
    for b in range(len(targets)):
        count = int((batch.target_weights[b] > 0).sum())
        old, start = targets[b, :count], int(positions[b, 0])
        if not count or not np.array_equal(positions[b, :count], np.arange(start, start + count)):
            continue
        use = np.flatnonzero(candidates.is_valid[b])
        found = _occurrences(body_ids[b, use], old, pool.is_continuation)
        if not found.any():
            continue
        new = pool.draw(old, rng, kind=pool.kind(old), max_length=max_masks) if drawn[b] else old
        if new is None:
            continue
        kept = batch.query.ids[b, : batch.query.length[b]]
        disguise = _Disguise(pool, rng, block_spans, probability=probability, kept=kept)
        bodies = [  # of all candidates: which ones were rewritten must not tell either
            disguise(
                body_ids[b, k, : body_length[b, k]],
                np.flatnonzero(starts),
                count,
                new,
                int(candidates.block_ids[b, k]),
            )
            for k, starts in zip(use, found, strict=True)
        ]
        width = body_ids.shape[-1]
        bodies = [cut_row(row, width) for row in bodies]
        if not any(_occurrences(row[None], new, pool.is_continuation).any() for row in bodies):
            continue
        masks = np.full(len(new), mask_id, np.int32)
        row = query_ids[b, : query_length[b]]
        before, after = (
            _renew(part, old, new, pool.is_continuation) for part in (row[:start], row[start + count :])
        )
        room = query_ids.shape[1] - len(before) - len(new)
        if room < 1:
            continue
        after = cut_row(after, room)
        row = np.concatenate([before, masks, after])
        query_ids[b], query_length[b] = _padded(row, query_ids.shape[1]), len(row)
        targets[b], weights[b] = _padded(new, most), np.arange(most) < len(new)
        positions[b] = _padded(np.arange(len(before), len(before) + len(new)), most)
        for k, body in zip(use, bodies, strict=True):
            body_ids[b, k], body_length[b, k] = _padded(body, width), len(body)
    blocks = replace(candidates.blocks, body=Rows(ids=body_ids, length=body_length))
    new_batch = replace(
        batch,
        query=Rows(ids=query_ids, length=query_length),
        target_positions=positions,
        target_ids=targets,
        target_weights=weights,
    )
    return new_batch, replace(candidates, blocks=blocks)


def _occurrences(rows: np.ndarray, span: np.ndarray, is_continuation: np.ndarray) -> np.ndarray:
    """Mark where a span starts in rows [..., L] as whole words; occurrences that overlap count once."""
    if is_continuation[span[0]]:
        return np.zeros(rows.shape, bool)
    starts = span_starts(rows, span)
    following = np.zeros(rows.shape, bool)
    following[..., : -len(span)] = is_continuation[rows[..., len(span) :]]
    return starts & ~following


def replace_runs(row: np.ndarray, edits: Sequence[tuple[int, int, np.ndarray]]) -> np.ndarray:
    """Replace runs of tokens.

    Args:
      row: int [L].
      edits: start, stop and what stands there instead, in order; one that starts inside the one before is
        passed over.

    Returns:
      int32 [n].
    """
    pieces, end = [], 0
    for start, stop, new in edits:
        if start >= end:
            pieces += [row[end:start], new]
            end = stop
    return np.concatenate([*pieces, row[end:]]).astype(np.int32)


def _renew(row: np.ndarray, old: np.ndarray, new: np.ndarray, is_continuation: np.ndarray) -> np.ndarray:
    starts = np.flatnonzero(_occurrences(row, old, is_continuation)).tolist() if len(row) else []
    return replace_runs(row, [(start, start + len(old), new) for start in starts])


def _padded(row: np.ndarray, length: int) -> np.ndarray:
    out = np.zeros(length, np.int32)
    out[: len(row)] = row
    return out


class _Disguise:
    """Rewrites the bodies of one row: the swapped span, and other salient spans with it."""

    def __init__(
        self,
        pool: SpanPool,
        rng: np.random.Generator,
        block_spans: BlockSpans,
        *,
        probability: float,
        kept: np.ndarray,
    ):
        self._pool, self._rng, self._block_spans = pool, rng, block_spans
        self._probability, self._kept = probability, kept
        self._chosen: dict[bytes, np.ndarray | None] = {}  # the same span gets the same replacement

    def __call__(
        self, body: np.ndarray, starts: np.ndarray, count: int, new: np.ndarray, block_id: int
    ) -> np.ndarray:
        """Replace `count` tokens at each start by `new`, and other spans of the block by others."""
        edits = [(start, start + count, new) for start in starts.tolist()]
        taken = np.zeros(len(body), bool)
        for start, stop, _ in edits:
            taken[start:stop] = True
        spans = self._block_spans(block_id).tolist() if block_id >= 0 else []  # the null block has none
        for start, stop, kind in spans:
            if stop < len(body) and not taken[start:stop].any():
                other = self._other(body[start:stop], kind)
                if other is not None:
                    edits.append((start, stop, other))
                    taken[start:stop] = True
        return replace_runs(body, sorted(edits, key=lambda edit: edit[0]))

    def _other(self, span: np.ndarray, kind: int) -> np.ndarray | None:
        key = span.tobytes()
        if key not in self._chosen:
            named = span_starts(self._kept[None], span).any() if len(span) <= len(self._kept) else False
            drawn = (
                None
                if named or self._rng.random() >= self._probability
                else self._pool.draw(span, self._rng, kind=kind, max_length=len(span))
            )
            self._chosen[key] = drawn
        return self._chosen[key]
