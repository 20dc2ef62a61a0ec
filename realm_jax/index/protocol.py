"""What every index engine does."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jax.sharding import Mesh

from realm_jax.types import Search


@dataclass(frozen=True)
class Storage:
    """Where an engine on the device keeps its rows, and in how many bits."""

    mesh: Mesh | None = None  # rows are split over all its devices; None: the default device
    dtype: str = "float32"  # float32, bfloat16 or int8


HERE = Storage()  # the default device, nothing rounded


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
