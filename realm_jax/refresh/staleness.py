"""What an old index costs.

Letters: B queries, k results, N rows, D embedding.
"""

import numpy as np


def top_k_overlap(stale_ids: np.ndarray, fresh_ids: np.ndarray) -> float:
    """Compare the results of two indexes for the same queries: mean |stale and fresh| / k.

    Args:
      stale_ids: int `[B, k]`, distinct within a row.
      fresh_ids: int `[B, k]`, distinct within a row.

    Returns:
      A share between 0 and 1.
    """
    common = (stale_ids[:, :, None] == fresh_ids[:, None, :]).any(axis=2)
    return float(common.mean())


def embedding_drift(stale: np.ndarray, fresh: np.ndarray) -> float:
    """Measure how far block embeddings moved: mean norm of the difference over mean norm.

    Args:
      stale: float32 `[N, D]`.
      fresh: float32 `[N, D]`, the same blocks.

    Returns:
      A ratio; 0 when nothing moved.
    """
    moved = np.linalg.norm(fresh - stale, axis=1).mean()
    return float(moved / max(float(np.linalg.norm(fresh, axis=1).mean()), 1e-12))
