"""The exact engine: every block is scored."""

import jax.numpy as jnp
import numpy as np

from realm_jax.ops.topk import exact_top_k
from realm_jax.types import Search

ROWS_PER_BLOCK = 1 << 14


class ExactIndex:
    """Search all rows on the device.

    Args:
      embeddings: float32 `[N, D]`.
    """

    def __init__(self, embeddings: np.ndarray):
        self._count = embeddings.shape[0]
        self._rows = min(ROWS_PER_BLOCK, max(64, self._count))
        padding = -self._count % self._rows
        self._embeddings = jnp.asarray(np.pad(np.asarray(embeddings, np.float32), ((0, padding), (0, 0))))

    def __len__(self) -> int:
        return self._count

    def search(self, query_embeddings: np.ndarray, k: int) -> Search:
        """Find the k best blocks of each query; see `Index.search`."""
        most = min(k, self._rows)
        scores, rows = exact_top_k(
            jnp.asarray(query_embeddings),
            self._embeddings,
            jnp.int32(self._count),
            k=most,
            rows_per_block=self._rows,
        )
        fill = ((0, 0), (0, k - most))
        return Search(
            scores=np.pad(np.asarray(scores), fill, constant_values=-np.inf),
            block_ids=np.pad(np.asarray(rows), fill, constant_values=-1),
        )
