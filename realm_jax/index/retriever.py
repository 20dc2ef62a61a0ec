"""Candidates from search results: the null block first, no trivial retrieval, no duplicate."""

from typing import Protocol

import numpy as np

from realm_jax.types import NO_BLOCK, Blocks, Candidates, Search


class BlockSource(Protocol):
    """What is needed of a corpus."""

    def gather(self, block_ids: np.ndarray) -> Blocks: ...

    @property
    def duplicate_of(self) -> np.ndarray: ...


def seen_before(ids: np.ndarray) -> np.ndarray:
    """Mark the entries that stand in their row already, further left.

    Args:
      ids: int `[B, k]`.

    Returns:
      bool `[B, k]`; in memory of that size, however long the rows are.
    """
    order = np.argsort(ids, axis=1, kind="stable")  # equal ones side by side, the leftmost first
    ranked = np.take_along_axis(ids, order, axis=1)
    again = np.zeros(ids.shape, bool)
    again[:, 1:] = ranked[:, 1:] == ranked[:, :-1]
    seen = np.empty_like(again)
    np.put_along_axis(seen, order, again, axis=1)
    return seen


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
    kept = (ids >= 0) & (same != cut_from[:, None]) & ~seen_before(same)
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
      null_block: put the null block first. A query for which no block is left reads the null block in any
        case: every row has a valid candidate.

    Returns:
      Candidates `[B, K]`; rows short of K are padded with invalid ones.

    Source: REALM, section 3.4 (null document, trivial retrievals).
    """
    found = choose_blocks(
        search, corpus.duplicate_of, count=candidates - int(null_block), origin=origin
    ).block_ids
    chosen = np.pad(found, ((0, 0), (int(null_block), 0)), constant_values=NO_BLOCK)
    is_null = np.zeros(chosen.shape, bool)
    is_null[:, 0] = null_block | (found == NO_BLOCK).all(axis=1)
    return Candidates(
        block_ids=chosen,
        blocks=corpus.gather(chosen),
        is_null=is_null,
        is_valid=is_null | (chosen != NO_BLOCK),
    )
