"""Candidates from search results: the null block first, no trivial retrieval, no duplicate."""

from typing import Protocol

import numpy as np

from realm_jax.types import NO_BLOCK, Blocks, Candidates, Search


class BlockSource(Protocol):
    """What is needed of a corpus."""

    def gather(self, block_ids: np.ndarray) -> Blocks: ...

    @property
    def duplicate_of(self) -> np.ndarray: ...


def choose_blocks(search: Search, duplicate_of: np.ndarray, *, count: int, origin: np.ndarray) -> Search:
    """Keep the best blocks that may be read, each once.

    Args:
      search: what the index found; searching a few more than `count` leaves room for what is dropped.
      duplicate_of: int32 `[N]`, the first block with the same text.
      count: how many are kept.
      origin: int32 `[B]`, the block each query was cut from, or NO_BLOCK: never kept.

    Returns:
      Scores and ids `[B, count]`, in the order they came; rows that fall short are filled up.

    Source: REALM, section 3.4 (trivial retrievals).
    """
    ids = np.asarray(search.block_ids)
    same = np.where(ids >= 0, duplicate_of[np.maximum(ids, 0)], NO_BLOCK)
    cut_from = np.where(origin >= 0, duplicate_of[np.maximum(origin, 0)], NO_BLOCK - 1)
    kept = (ids >= 0) & (same != cut_from[:, None]) & ~_repeated(same)
    order = np.argsort(~kept, axis=1, kind="stable")[:, :count]
    kept = np.take_along_axis(kept, order, axis=1)
    missing = ((0, 0), (0, count - order.shape[1]))
    chosen = np.where(kept, np.take_along_axis(ids, order, axis=1), NO_BLOCK)
    scores = np.where(kept, np.take_along_axis(np.asarray(search.scores), order, axis=1), -np.inf)
    return Search(
        scores=np.pad(scores, missing, constant_values=-np.inf).astype(np.float32),
        block_ids=np.pad(chosen, missing, constant_values=NO_BLOCK).astype(np.int32),
    )


def retrieve_candidates(
    search: Search, corpus: BlockSource, *, candidates: int, origin: np.ndarray, null_block: bool = True
) -> Candidates:
    """Choose K candidates for each query and fetch their tokens.

    Args:
      search: what the index found; see `choose_blocks`.
      corpus: the blocks.
      candidates: K, the null block included.
      origin: int32 `[B]`, the block each query was cut from, or NO_BLOCK: never a candidate.
      null_block: put the null block first.

    Returns:
      Candidates `[B, K]`; rows short of K are padded with invalid ones.

    Source: REALM, section 3.4 (null document, trivial retrievals).
    """
    found = choose_blocks(
        search, corpus.duplicate_of, count=candidates - int(null_block), origin=origin
    ).block_ids
    chosen = np.pad(found, ((0, 0), (int(null_block), 0)), constant_values=NO_BLOCK)
    is_null = np.zeros(chosen.shape, bool)
    is_null[:, : int(null_block)] = True
    return Candidates(
        block_ids=chosen,
        blocks=corpus.gather(chosen),
        is_null=is_null,
        is_valid=is_null | (chosen != NO_BLOCK),
    )


def _repeated(values: np.ndarray) -> np.ndarray:
    """Mark what stood further left in its row already: bool `[B, k]`; sorts, for k in the thousands."""
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    again = np.zeros(values.shape, bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    repeated = np.zeros(values.shape, bool)
    np.put_along_axis(repeated, order, again, axis=1)
    return repeated
