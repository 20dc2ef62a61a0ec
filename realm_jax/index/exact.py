"""The exact engine: every block is scored."""

import jax.numpy as jnp
import numpy as np

from realm_jax.ops.topk import exact_top_k
from realm_jax.types import Search

# Together they bound the scores in memory at once to 64 MiB, however many queries and blocks there are.
ROWS_PER_BLOCK = 1 << 14
QUERIES_PER_CALL = 1 << 10


class ExactIndex:
    """Search all rows on the device.

    Args:
      embeddings: float32 `[N, D]`.
    """

    def __init__(self, embeddings: np.ndarray):
        self._count = embeddings.shape[0]
        # Equal parts: one row more than a full part must not cost a whole part of padding.
        parts = max(1, -(-self._count // ROWS_PER_BLOCK))
        self._rows = max(64, -(-self._count // parts))
        padding = -self._count % self._rows
        self._embeddings = jnp.asarray(np.pad(np.asarray(embeddings, np.float32), ((0, padding), (0, 0))))

    def __len__(self) -> int:
        return self._count

    def search(self, query_embeddings: np.ndarray, k: int) -> Search:
        """Find the k best blocks of each query; see `Index.search`. Ties go to the lower id."""
        queries = np.asarray(query_embeddings, np.float32)
        if len(queries) <= QUERIES_PER_CALL:
            return Search(*self._search(queries, k))
        # One program for every part, the last one included.
        padded = np.pad(queries, ((0, -len(queries) % QUERIES_PER_CALL), (0, 0)))
        parts = [self._search(part, k) for part in padded.reshape(-1, QUERIES_PER_CALL, queries.shape[1])]
        scores, block_ids = (np.concatenate(side)[: len(queries)] for side in zip(*parts, strict=True))
        return Search(scores=scores, block_ids=block_ids)

    def _search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        scores, rows = exact_top_k(
            jnp.asarray(queries),
            self._embeddings,
            jnp.int32(self._count),
            k=k,
            rows_per_block=self._rows,
        )
        return np.asarray(scores), np.asarray(rows)
