"""Batches of the reading warm-up: rows that can be answered from a block, and that block first.

Letters: B batch, K candidates.
"""

from dataclasses import replace

import jax
import numpy as np

from realm_jax.data.questions import Occurrences, find_occurrences
from realm_jax.text.tokenizer import Tokenizer
from realm_jax.types import Candidates, MaskedBatch, Rows, tree_rows


def holds_target(batch: MaskedBatch, candidates: Candidates, tokenizer: Tokenizer) -> np.ndarray:
    """Mark the valid candidates whose body holds the masked tokens, as whole words.

    Args:
      batch: masked texts; NumPy arrays.
      candidates: `[B, K]`; NumPy arrays.
      tokenizer: of the corpus.

    Returns:
      bool `[B, K]`.
    """
    return find_targets(batch, candidates, tokenizer).has_answer & candidates.is_valid


def rows_with_evidence(
    batch: MaskedBatch, candidates: Candidates, evidence: np.ndarray, *, rows: int
) -> tuple[MaskedBatch, Candidates, np.ndarray]:
    """Keep `rows` rows, those with evidence before all others: the rest can teach nothing about reading.

    Args:
      batch: masked texts `[B, ...]`.
      candidates: `[B, K, ...]`.
      evidence: bool `[B, K]`, from `holds_target`.
      rows: B of the result; at most that of the batch.

    Returns:
      Batch, candidates and evidence; order is kept among equals.
    """
    chosen = np.argsort(~evidence.any(axis=1), kind="stable")[:rows]
    return tree_rows(batch, chosen), tree_rows(candidates, chosen), evidence[chosen]


def evidence_first(candidates: Candidates, evidence: np.ndarray, *, keep: int) -> Candidates:
    """Keep `keep` candidates of each row, those with evidence before all others.

    Args:
      candidates: `[B, K, ...]`.
      evidence: bool `[B, K]`, from `holds_target`.
      keep: K of the result; at most that of the candidates.

    Returns:
      Candidates; order is kept among equals.
    """
    places = np.argsort(~evidence, axis=1, kind="stable")[:, :keep]

    def pick(leaf: np.ndarray) -> np.ndarray:
        return np.take_along_axis(leaf, places.reshape(*places.shape, *(1,) * (leaf.ndim - 2)), axis=1)

    return jax.tree.map(pick, candidates)


def crop_to_target(
    batch: MaskedBatch, candidates: Candidates, tokenizer: Tokenizer, *, width: int, rng: np.random.Generator
) -> Candidates:
    """Cut every body to a window around the masked tokens; reading a short text is learned much sooner.

    Args:
      batch: masked texts `[B, ...]`.
      candidates: `[B, K, ...]`.
      tokenizer: of the corpus.
      width: tokens of the new bodies, [SEP] included.
      rng: chooses where in its window the target stands; a body without it is cut anywhere.

    Returns:
      Candidates with bodies `[B, K, width]`.
    """
    found = find_targets(batch, candidates, tokenizer)
    body = candidates.blocks.body
    words = body.length - 1  # without [SEP]
    kept = np.minimum(words, width - 1)
    last_start = words - kept
    # The window starts at most so late that it holds the target, at least so early that it ends with it.
    late = np.where(found.has_answer, found.starts[..., 0], last_start)
    early = np.where(found.has_answer, found.stops[..., 0] + 1 - kept, 0)
    late, early = np.clip(late, 0, last_start), np.clip(early, 0, last_start)
    start = rng.integers(early, np.maximum(late, early) + 1)
    places = np.minimum(start[..., None] + np.arange(width), body.ids.shape[-1] - 1)
    ids = np.take_along_axis(body.ids, places, axis=-1)
    position = np.arange(width)
    ids = np.where(position < kept[..., None], ids, 0)
    ids = np.where(position == kept[..., None], tokenizer.sep_id, ids).astype(np.int32)
    cropped = Rows(ids=ids, length=(kept + 1).astype(np.int32))
    return replace(candidates, blocks=replace(candidates.blocks, body=cropped))


def find_targets(batch: MaskedBatch, candidates: Candidates, tokenizer: Tokenizer) -> Occurrences:
    """Find the first place of each row's masked tokens in each of its bodies, as whole words."""
    counts = (batch.target_weights > 0).sum(axis=1)
    return find_occurrences(
        candidates.blocks.body.ids,
        [[ids[:count]] for ids, count in zip(batch.target_ids, counts, strict=True)],
        max_spans=1,
        is_continuation=tokenizer.is_continuation,
        unk_id=tokenizer.unk_id,
    )
