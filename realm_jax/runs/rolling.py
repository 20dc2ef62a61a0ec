"""Rolling refresh: the blocks in equal parts, of which each refresh embeds one; the index is a mixture.

Part i has the blocks i, i + S, i + 2 S, ...: so each process of a run has as many blocks of it as the others.

Letters: S shards, N blocks, D embedding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


def shard_sizes(count: int, shards: int) -> np.ndarray:
    """Count the blocks of each part of N: int64 `[S]`."""
    return (count - np.arange(shards, dtype=np.int64) + shards - 1) // shards


def oldest_shard(versions: Sequence[int]) -> int:
    """Name the part that is embedded next: the one of the oldest version, the first of several."""
    return int(np.argmin(versions))


@dataclass(frozen=True)
class Shard:
    """A part of the blocks that is embedded anew; the others stay what they are in a version."""

    base: int  # the version
    count: int  # N
    read: Callable[[], np.ndarray]  # its embeddings, float32 [N, D]; called by who puts others among them
    versions: tuple[int, ...]  # of its S shards
    number: int  # of the part

    def block_ids(self) -> np.ndarray:
        """Return the blocks of the part, int64."""
        return np.arange(self.number, self.count, len(self.versions))

    def ids_in(self, first: int, stop: int) -> np.ndarray:
        """Return the blocks of the part among those of a range, numbered from its first: int64."""
        ids = self.block_ids()
        return ids[(ids >= first) & (ids < stop)] - first

    def renewed(self, rows: np.ndarray, *, first: int = 0, stop: int | None = None) -> np.ndarray:
        """Put new rows in their place among the old ones.

        Args:
          rows: float32, one for each of `ids_in` the range.
          first, stop: a range of the blocks; all of them unless told otherwise.

        Returns:
          float32 `[stop - first, D]`.
        """
        stop = self.count if stop is None else stop
        embeddings = np.array(self.read()[first:stop], np.float32)
        ids = self.ids_in(first, stop)
        embeddings[ids] = rows.reshape(len(ids), embeddings.shape[1])  # also where there are none
        return embeddings

    def versions_with(self, version: int) -> tuple[int, ...]:
        """Return the versions of all parts once this one is of `version`."""
        return (*self.versions[: self.number], version, *self.versions[self.number + 1 :])
