"""What an old index costs.

Letters: B queries, k results, N rows, D embedding.
"""

from collections.abc import Sequence

import numpy as np

from realm_jax.types import NO_BLOCK


def top_k_overlap(stale_ids: np.ndarray, fresh_ids: np.ndarray) -> float:
    """Compare the results of two indexes for the same queries: mean |stale and fresh| / k.

    Args:
      stale_ids: int `[B, k]`, distinct within a row; NO_BLOCK is padding.
      fresh_ids: int `[B, k]`, distinct within a row; NO_BLOCK is padding, and not counted in k.

    Returns:
      The share of the fresh results that the stale index finds too; 1 if there are none.
    """
    real = fresh_ids != NO_BLOCK
    common = (fresh_ids[:, :, None] == stale_ids[:, None, :]).any(axis=2) & real
    shares = common.sum(axis=1) / np.maximum(real.sum(axis=1), 1)
    return float(np.where(real.any(axis=1), shares, 1.0).mean())


def shard_staleness(step: int, versions: Sequence[int], sizes: np.ndarray) -> tuple[float, float]:
    """Say how old an index is whose parts were embedded at different steps.

    Args:
      step: steps done.
      versions: steps whose parameters embedded each part.
      sizes: int, blocks of each part.

    Returns:
      Age in steps: the mean over blocks, and the largest.
    """
    ages = step - np.array(versions)
    return float(np.average(ages, weights=sizes)), float(ages.max())


def embedding_drift(stale: np.ndarray, fresh: np.ndarray, *, sample: int = 4096) -> float:
    """Measure how far block embeddings moved: mean norm of the difference over mean norm.

    Args:
      stale: float32 `[N, D]`.
      fresh: float32 `[N, D]`, the same blocks.
      sample: rows looked at, spread evenly: the trainer waits for this, so it must not grow with N.

    Returns:
      A ratio; 0 when nothing moved.
    """
    rows = np.linspace(0, len(fresh) - 1, min(sample, len(fresh))).astype(np.int64)
    before, after = stale[rows], fresh[rows]
    moved = np.linalg.norm(after - before, axis=1).mean()
    return float(moved / max(float(np.linalg.norm(after, axis=1).mean()), 1e-12))
