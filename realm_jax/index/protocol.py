"""What every index engine does."""

from typing import Protocol

import numpy as np

from realm_jax.types import Search


class Index(Protocol):
    """Block embeddings that can be searched by inner product."""

    def search(self, query_embeddings: np.ndarray, k: int) -> Search:
        """Find the k best blocks of each query.

        Args:
          query_embeddings: float32 `[B, D]`.
          k: how many; rows with fewer are filled with NO_BLOCK and -inf.
        """
        ...

    def __len__(self) -> int: ...
