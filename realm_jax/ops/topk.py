"""Exact top-k by inner product, in bounded memory.

Letters: B queries, N rows, D embedding.
"""

from functools import partial

import chex
import jax
import jax.numpy as jnp

from realm_jax.types import Array


@partial(jax.jit, static_argnames=("k", "rows_per_block"))
def exact_top_k(
    queries: Array, embeddings: Array, count: Array, *, k: int, rows_per_block: int
) -> tuple[Array, Array]:
    """Find the k rows with the largest inner product, best first, ties by lower row.

    Args:
      queries: float32 `[B, D]`.
      embeddings: float32 `[N, D]`; N is a multiple of `rows_per_block`.
      count: int32 `[]`; rows from here on are padding and never found.
      k: how many.
      rows_per_block: rows scored at a time; B times this many scores are in memory at once.

    Returns:
      float32 `[B, k]` scores and int32 `[B, k]` rows; -inf and -1 where there are fewer than k rows.
    """
    chex.assert_rank([queries, embeddings], [2, 2])
    blocks = embeddings.reshape(-1, rows_per_block, embeddings.shape[1])
    batch = queries.shape[0]
    best = (jnp.full((batch, k), -jnp.inf, jnp.float32), jnp.full((batch, k), -1, jnp.int32))

    def merge(best: tuple[Array, Array], numbered: tuple[Array, Array]) -> tuple[tuple[Array, Array], None]:
        number, rows = numbered
        # Full precision: accelerators multiply float32 in fewer bits unless told, and near ties would swap.
        scores = jnp.einsum("bd,nd->bn", queries, rows, precision=jax.lax.Precision.HIGHEST)
        ids = number * rows_per_block + jnp.arange(rows_per_block, dtype=jnp.int32)
        scores = jnp.where(jnp.broadcast_to(ids, scores.shape) < count, scores, -jnp.inf)
        found, place = jax.lax.top_k(scores, min(k, rows_per_block))
        # Earlier rows stand first, and top_k keeps the first of equals, so ties go to the lower row.
        scores = jnp.concatenate([best[0], found], axis=1)
        ids = jnp.concatenate([best[1], jnp.where(jnp.isneginf(found), -1, ids[place])], axis=1)
        top, place = jax.lax.top_k(scores, k)
        return (top, jnp.take_along_axis(ids, place, axis=1)), None

    numbers = jnp.arange(blocks.shape[0], dtype=jnp.int32)
    return jax.lax.scan(merge, best, (numbers, blocks))[0]
