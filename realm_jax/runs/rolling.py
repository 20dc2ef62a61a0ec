"""Rolling refresh: the blocks in equal parts, of which each refresh embeds one; the index is a mixture.

Letters: S shards, N blocks, D embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


def shard_bounds(count: int, shards: int) -> np.ndarray:
    """Cut N blocks into parts of equal size: int64 `[S + 1]`, part i is `[bounds[i], bounds[i + 1])`."""
    return np.arange(shards + 1, dtype=np.int64) * count // shards


def oldest_shard(versions: Sequence[int]) -> int:
    """Name the part that is embedded next: the one of the oldest version, the first of several."""
    return int(np.argmin(versions))


@dataclass(frozen=True)
class Shard:
    """A part of the blocks that is embedded anew; the others stay what they are in a version."""

    base: int  # the version
    embeddings: np.ndarray  # float32 [N, D], its own
    versions: tuple[int, ...]  # of its S shards
    number: int  # of the part

    def block_ids(self) -> np.ndarray:
        """Return the blocks of the part, int64."""
        bounds = shard_bounds(len(self.embeddings), len(self.versions))
        return np.arange(bounds[self.number], bounds[self.number + 1])

    def renewed(self, rows: np.ndarray) -> np.ndarray:
        """Put new rows in their place among the old ones: float32 `[N, D]`."""
        embeddings = np.array(self.embeddings, np.float32)
        embeddings[self.block_ids()] = rows
        return embeddings

    def versions_with(self, version: int) -> tuple[int, ...]:
        """Return the versions of all parts once this one is of `version`."""
        return (*self.versions[: self.number], version, *self.versions[self.number + 1 :])
