"""Which of the blocks that were found are read, inside a compiled step.

The rules are those of `index/retriever.py`, which follows them on the host.
Letters: B queries, n blocks found for each, K candidates.
"""

import chex
import jax.numpy as jnp

from realm_jax.types import NO_BLOCK, Array


def choose_blocks(block_ids: Array, same: Array, cut_from: Array, *, count: int) -> Array:
    """Keep the best blocks that may be read, each text once.

    Args:
      block_ids: int32 `[B, n]`, best first; NO_BLOCK where fewer were found.
      same: int32 `[B, n]`, the first block with the same text as each; NO_BLOCK where there is none.
      cut_from: int32 `[B]`, the first block with the text each query was cut from, or NO_BLOCK: never kept.
      count: how many are kept.

    Returns:
      int32 `[B, count]`, in the order they came; NO_BLOCK where there are fewer.

    Source: REALM, section 3.4 (trivial retrievals).
    """
    chex.assert_equal_shape([block_ids, same])
    shape = (*same.shape, same.shape[1])
    earlier = jnp.tri(same.shape[1], k=-1, dtype=bool)
    equal = jnp.broadcast_to(same[:, :, None], shape) == jnp.broadcast_to(same[:, None, :], shape)
    again = jnp.any(equal & jnp.broadcast_to(earlier, shape), axis=-1)
    trivial = same == jnp.broadcast_to(cut_from[:, None], same.shape)
    kept = (block_ids >= 0) & ~trivial & ~again
    order = jnp.argsort(~kept, axis=1, stable=True)[:, :count]
    chosen = jnp.take_along_axis(jnp.where(kept, block_ids, NO_BLOCK), order, axis=1)
    return jnp.pad(chosen, ((0, 0), (0, count - order.shape[1])), constant_values=NO_BLOCK)


def with_null_block(chosen: Array, *, null_block: bool) -> tuple[Array, Array, Array]:
    """Put the null block first, and mark what is valid.

    Args:
      chosen: int32 `[B, n]`, from `choose_blocks`.
      null_block: False puts it there only for a query that has no block: every row has a valid candidate.

    Returns:
      int32 `[B, K]` block ids, bool `[B, K]` is_null and is_valid; K is n, or n + 1 with the null block.

    Source: REALM, section 3.4 (null document).
    """
    block_ids = jnp.pad(chosen, ((0, 0), (int(null_block), 0)), constant_values=NO_BLOCK)
    first = jnp.broadcast_to(jnp.arange(block_ids.shape[1]) == 0, block_ids.shape)
    none = null_block | jnp.all(chosen == NO_BLOCK, axis=1, keepdims=True)
    is_null = first & jnp.broadcast_to(none, first.shape)
    return block_ids, is_null, is_null | (block_ids != NO_BLOCK)
