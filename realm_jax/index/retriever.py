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


def retrieve_candidates(
    search: Search, corpus: BlockSource, *, candidates: int, origin: np.ndarray, null_block: bool = True
) -> Candidates:
    """Choose K candidates for each query and fetch their tokens.

    Args:
      search: what the index found; searching a few more than K leaves room for what is dropped.
      corpus: the blocks.
      candidates: K, the null block included.
      origin: int32 `[B]`, the block each query was cut from, or NO_BLOCK: never a candidate.
      null_block: put the null block first. A query for which no block is left reads the null block in any
        case: every row has a valid candidate.

    Returns:
      Candidates `[B, K]`; rows short of K are padded with invalid ones.

    Source: REALM, section 3.4 (null document, trivial retrievals).
    """
    ids = np.asarray(search.block_ids)
    same = np.where(ids >= 0, corpus.duplicate_of[np.maximum(ids, 0)], NO_BLOCK)
    cut_from = np.where(origin >= 0, corpus.duplicate_of[np.maximum(origin, 0)], NO_BLOCK - 1)
    kept = (ids >= 0) & (same != cut_from[:, None]) & ~seen_before(same)
    found = candidates - int(null_block)
    order = np.argsort(~kept, axis=1, kind="stable")[:, :found]
    chosen = np.take_along_axis(ids, order, axis=1)
    valid = np.take_along_axis(kept, order, axis=1)
    short = found - chosen.shape[1]
    chosen = np.pad(chosen, ((0, 0), (0, max(short, 0))), constant_values=NO_BLOCK)
    valid = np.pad(valid, ((0, 0), (0, max(short, 0))))
    if null_block:
        chosen = np.pad(chosen, ((0, 0), (1, 0)), constant_values=NO_BLOCK)
        valid = np.pad(valid, ((0, 0), (1, 0)))
    is_null = np.zeros((len(ids), candidates), bool)
    is_null[:, 0] = null_block | ~valid.any(axis=1)
    chosen = np.where(valid, chosen, NO_BLOCK).astype(np.int32)
    valid = valid | is_null
    return Candidates(block_ids=chosen, blocks=corpus.gather(chosen), is_null=is_null, is_valid=valid)
