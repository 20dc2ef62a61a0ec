"""Batches of the reading warm-up: rows that can be answered from a block, and that block first.

Letters: B batch, K candidates.
"""

import jax
import numpy as np

from realm_jax.data.questions import find_occurrences
from realm_jax.text.tokenizer import Tokenizer
from realm_jax.types import Candidates, MaskedBatch, tree_rows


def holds_target(batch: MaskedBatch, candidates: Candidates, tokenizer: Tokenizer) -> np.ndarray:
    """Mark the valid candidates whose body holds the masked tokens, as whole words.

    Args:
      batch: masked texts; NumPy arrays.
      candidates: `[B, K]`; NumPy arrays.
      tokenizer: of the corpus.

    Returns:
      bool `[B, K]`.
    """
    counts = (batch.target_weights > 0).sum(axis=1)
    targets = [[ids[:count]] for ids, count in zip(batch.target_ids, counts, strict=True)]
    found = find_occurrences(
        candidates.blocks.body.ids,
        targets,
        max_spans=1,
        is_continuation=tokenizer.is_continuation,
        unk_id=tokenizer.unk_id,
    )
    return found.has_answer & candidates.is_valid


def evidence_first(
    batch: MaskedBatch, candidates: Candidates, evidence: np.ndarray, *, rows: int, keep: int
) -> tuple[MaskedBatch, Candidates]:
    """Keep the rows with evidence and, of each, the candidates with evidence, before all others.

    Args:
      batch: masked texts `[B, ...]`.
      candidates: `[B, K, ...]`.
      evidence: bool `[B, K]`, from `holds_target`.
      rows: B of the result.
      keep: K of the result.

    Returns:
      The batch and its candidates; order is kept among equals.
    """
    chosen = np.argsort(~evidence.any(axis=1), kind="stable")[:rows]
    batch, candidates = tree_rows(batch, chosen), tree_rows(candidates, chosen)
    places = np.argsort(~evidence[chosen], axis=1, kind="stable")[:, :keep]

    def pick(leaf: np.ndarray) -> np.ndarray:
        return np.take_along_axis(leaf, places.reshape(*places.shape, *(1,) * (leaf.ndim - 2)), axis=1)

    return batch, jax.tree.map(pick, candidates)
