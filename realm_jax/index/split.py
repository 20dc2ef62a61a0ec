"""An index over several hosts: each holds and searches its share of the rows.

Letters: P processes, B queries of one of them, N rows, D embedding.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental.multihost_utils import process_allgather

from realm_jax.index.embed import BlockSource
from realm_jax.index.manifest import best_scores, recall_of, true_scores
from realm_jax.index.protocol import Index
from realm_jax.types import NO_BLOCK, Blocks, Search

PROCESSES = "processes"  # in a manifest's settings: how many have made the version together


class RowShare(NamedTuple):
    """The rows of a process: a range, so that of equal scores the lower row is of the lower process."""

    first: int
    stop: int


def shares_of(count: int, processes: int) -> list[RowShare]:
    """Cut N rows into equal ranges, one a process; the last ones may be shorter, or empty."""
    each = -(-count // processes)
    starts = [min(process * each, count) for process in range(processes + 1)]
    return [RowShare(*ends) for ends in itertools.pairwise(starts)]


class SplitIndex:
    """Search the rows of all processes.

    A search exchanges queries and results through the devices: all processes ask at once, on their main
    threads, each with its own queries, of which it has as many as the others.

    Args:
      own: engine of this process's rows; None if there are none.
      share: which rows these are.
      count: N.
      process: number of this process; None: as jax says.
      gather: `[...]` of every process to `[P, ...]`.
    """

    def __init__(
        self,
        own: Index | None,
        share: RowShare,
        count: int,
        *,
        process: int | None = None,
        gather: Callable[[np.ndarray], np.ndarray] = process_allgather,
    ):
        self.own, self.share = own, share
        self._count, self._gather = count, gather
        self._process = jax.process_index() if process is None else process

    def __len__(self) -> int:
        return self._count

    def search(self, query_embeddings: np.ndarray, k: int) -> Search:
        """Find the k best blocks of each query; see `Index.search`. Ties go to the lower id."""
        queries = np.asarray(query_embeddings, np.float32)
        if not len(queries):
            return Search(np.zeros((0, k), np.float32), np.zeros((0, k), np.int32))
        everyone = self._gather(queries)  # [P, B, D]
        found = search_share(self.own, self.share, everyone.reshape(-1, queries.shape[1]), k)
        shape = (*everyone.shape[:2], k)
        scores, ids = (self._gather(side.reshape(shape)) for side in (found.scores, found.block_ids))
        return best_of(scores[:, self._process], ids[:, self._process], k)


def search_share(own: Index | None, share: RowShare, queries: np.ndarray, k: int) -> Search:
    """Find the k best rows of one process, by their numbers among all."""
    if own is None:
        shape = (len(queries), k)
        return Search(np.full(shape, -np.inf, np.float32), np.full(shape, NO_BLOCK, np.int32))
    found = own.search(queries, k)
    ids = np.where(found.block_ids >= 0, found.block_ids + np.int32(share.first), NO_BLOCK)
    return Search(scores=found.scores, block_ids=ids.astype(np.int32))


def best_of(scores: np.ndarray, block_ids: np.ndarray, k: int) -> Search:
    """Keep the k best of what every process has found.

    Args:
      scores: float32 `[P, B, k]`, -inf where there is nothing.
      block_ids: int32 `[P, B, k]`.
      k: how many.
    """
    scores, ids = (np.concatenate(list(side), axis=1) for side in (scores, block_ids))
    order = np.lexsort((ids, -scores), axis=1)[:, :k]
    return Search(*(np.take_along_axis(side, order, axis=1) for side in (scores, ids)))


def split_index(embeddings: np.ndarray, build: Callable[[np.ndarray], Index]) -> SplitIndex:
    """Build this process's engine over its share of rows that all processes see: float32 `[N, D]`."""
    share = shares_of(len(embeddings), jax.process_count())[jax.process_index()]
    rows = embeddings[share.first : share.stop]
    return SplitIndex(build(rows) if len(rows) else None, share, len(embeddings))


class FoundHere(NamedTuple):
    """What the measurement of recall needs of a process; lists, for a meeting.

    Letters: Q queries, k results.
    """

    nearest: list[list[float]]  # [Q, k], scores of the nearest rows here, -inf where there are fewer
    scores: list[list[float]]  # [Q, k], by which the engine found its results
    true: list[list[float]]  # [Q, k], what they really are
    block_ids: list[list[int]]  # [Q, k]


def found_here(
    own: Index | None, share: RowShare, rows: np.ndarray, queries: np.ndarray, k: int
) -> FoundHere:
    """Search the rows of this process for the measurement of recall.

    Args:
      own: engine of this process's rows.
      share: which rows these are.
      rows: float32 `[n, D]`, what it was built from.
      queries: float32 `[Q, D]`.
      k: results compared.
    """
    found = search_share(own, share, queries, k)
    nearest = np.full((len(queries), k), -np.inf, np.float32)
    true = nearest
    if own is not None:
        best = best_scores(rows, queries, k=min(k, len(rows)))
        nearest[:, : best.shape[1]] = best
        true = true_scores(rows, queries, found.block_ids - np.int32(share.first))
    return FoundHere(nearest.tolist(), found.scores.tolist(), true.tolist(), found.block_ids.tolist())


def merged_recall(found: Sequence[Sequence[list]], k: int) -> float:
    """Work out the recall of all processes together, as `measure_recall` does for one.

    Args:
      found: the fields of every process's `FoundHere`.
      k: results compared.
    """
    nearest, scores, true, ids = (
        np.concatenate([np.array(side) for side in sides], axis=1) for sides in zip(*found, strict=True)
    )
    order = np.lexsort((ids, -scores), axis=1)[:, :k]
    kth = -np.sort(-nearest, axis=1)[:, k - 1 : k]
    return recall_of(kth, *(np.take_along_axis(side, order, axis=1) for side in (true, ids)))


class ShareOfBlocks:
    """The blocks of one process, numbered from 0.

    Args:
      blocks: all of them.
      share: which.
    """

    def __init__(self, blocks: BlockSource, share: RowShare):
        self._blocks, self._share = blocks, share

    def __len__(self) -> int:
        return self._share.stop - self._share.first

    def token_counts(self) -> np.ndarray:
        """Return the lengths by which blocks are put in batches."""
        return self._blocks.token_counts()[self._share.first : self._share.stop]

    def gather(self, block_ids: np.ndarray) -> Blocks:
        """Fetch blocks by their numbers here; NO_BLOCK is the null block."""
        return self._blocks.gather(np.where(block_ids >= 0, block_ids + self._share.first, NO_BLOCK))
