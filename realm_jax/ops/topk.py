"""Top-k by inner product over stored rows, in bounded memory, on one device or on all of a mesh.

Letters: B queries, N rows, D embedding.
"""

from collections.abc import Callable
from functools import partial

import chex
import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import Mesh, PartitionSpec

from realm_jax.types import Array

Select = Callable[[Array, int], tuple[Array, Array]]  # (scores [B, n], k) -> k best of a row, and where


def exact(scores: Array, k: int) -> tuple[Array, Array]:
    """Select the k best, the first of equals before the others."""
    return jax.lax.top_k(scores, k)


def approximate(scores: Array, k: int, *, count: int, recall: float) -> tuple[Array, Array]:
    """Select k good ones by the accelerator's partial reduction.

    Args:
      scores: float32 `[B, n]`.
      k: how many.
      count: rows of the whole index, of which these are a part: the recall is that over all.
      recall: share of the true k best that is expected.

    Source: Chern et al. 2022, TPU-KNN.
    """
    found, place = jax.lax.approx_max_k(scores, k, recall_target=recall, reduction_input_size_override=count)
    order, place = jax.lax.sort((-found, place), num_keys=2)  # the lower of equals first, as everywhere
    return -order, place


@struct.dataclass
class StoredRows:
    """Rows as a device keeps them."""

    values: Array  # float32, bfloat16 or int8 [N, D]
    scales: Array | None = None  # float32 [N], by which int8 values are multiplied


@partial(jax.jit, static_argnames=("k", "rows_per_block", "mesh", "recall"))
def top_k_rows(
    queries: Array,
    rows: StoredRows,
    count: Array,
    *,
    k: int,
    rows_per_block: int,
    mesh: Mesh | None = None,
    recall: float | None = None,
) -> tuple[Array, Array]:
    """Find the k rows with the largest inner product, best first, ties by lower row.

    Args:
      queries: float32 `[B, D]`.
      rows: N rows, a multiple of `rows_per_block` on every device.
      count: int32 `[]`; rows from here on are padding and never found.
      k: how many.
      rows_per_block: rows a device scores at a time; B times this many scores are in memory at once.
      mesh: the devices over which the rows are split in order; None: one device.
      recall: share of them that must be found; None: all.

    Returns:
      float32 `[B, k]` scores and int32 `[B, k]` rows; -inf and -1 where there are fewer than k rows.
    """
    total = rows.values.shape[0]
    select = exact if recall is None else partial(approximate, count=total, recall=recall)
    if mesh is None:
        return blocked_top_k(queries, rows, count, k=k, rows_per_block=rows_per_block, select=select)
    return sharded_top_k(queries, rows, count, k=k, rows_per_block=rows_per_block, select=select, mesh=mesh)


def blocked_top_k(
    queries: Array, rows: StoredRows, count: Array, *, k: int, rows_per_block: int, select: Select
) -> tuple[Array, Array]:
    """Find the k best of stored rows, a block of them scored at a time.

    Args:
      queries: float32 `[B, D]`.
      rows: N rows, a multiple of `rows_per_block`.
      count: int32 `[]`; rows from here on are padding and never found.
      k: how many.
      rows_per_block: rows scored at a time; B times this many scores are in memory at once.
      select: picks the best of a block.

    Returns:
      As `top_k_rows`.
    """
    chex.assert_rank([queries, rows.values], [2, 2])
    blocks = jax.tree.map(lambda leaf: leaf.reshape(-1, rows_per_block, *leaf.shape[1:]), rows)
    batch = queries.shape[0]
    best = (jnp.full((batch, k), -jnp.inf, jnp.float32), jnp.full((batch, k), -1, jnp.int32))

    def merge(
        best: tuple[Array, Array], numbered: tuple[Array, StoredRows]
    ) -> tuple[tuple[Array, Array], None]:
        number, block = numbered
        ids = number * rows_per_block + jnp.arange(rows_per_block, dtype=jnp.int32)
        scores = row_scores(queries, block)
        scores = jnp.where(jnp.broadcast_to(ids, scores.shape) < count, scores, -jnp.inf)
        found, place = select(scores, min(k, rows_per_block))
        found_ids = jnp.where(jnp.isneginf(found), -1, ids[place])
        # Earlier rows stand first, and top_k keeps the first of equals, so ties go to the lower row.
        return _best(jnp.concatenate([best[0], found], 1), jnp.concatenate([best[1], found_ids], 1), k), None

    numbers = jnp.arange(blocks.values.shape[0], dtype=jnp.int32)
    return jax.lax.scan(merge, best, (numbers, blocks))[0]


def sharded_top_k(
    queries: Array,
    rows: StoredRows,
    count: Array,
    *,
    k: int,
    rows_per_block: int,
    select: Select,
    mesh: Mesh,
) -> tuple[Array, Array]:
    """Find the k best of rows that are split over all devices of a mesh.

    Each device finds the k best of its own rows; the results are gathered and the k best of them kept.

    Args:
      queries: float32 `[B, D]`, the same on every device.
      rows: N rows in the order of the devices; every device has a multiple of `rows_per_block`.
      count: int32 `[]`; rows from here on are padding and never found.
      k: how many.
      rows_per_block: rows a device scores at a time.
      select: picks the best of a block.
      mesh: the devices.

    Returns:
      As `top_k_rows`, the same on every device.
    """
    axes = mesh.axis_names
    split = PartitionSpec(axes)

    def local(queries: Array, rows: StoredRows, count: Array) -> tuple[Array, Array]:
        held = rows.values.shape[0]
        first = jax.lax.axis_index(axes) * held
        real = jnp.clip(count - first, 0, held)
        scores, ids = blocked_top_k(queries, rows, real, k=k, rows_per_block=rows_per_block, select=select)
        ids = jnp.where(ids >= 0, ids + first, -1)
        # Devices stand in the order of their rows, so that of equals the lower row comes first here too.
        scores, ids = (jax.lax.all_gather(side, axes, axis=1, tiled=True) for side in (scores, ids))
        return _best(scores, ids, k)

    in_specs = (PartitionSpec(), jax.tree.map(lambda _: split, rows), PartitionSpec())
    # What was gathered is the same everywhere; the check cannot see that.
    mapped = jax.shard_map(local, mesh=mesh, in_specs=in_specs, out_specs=PartitionSpec(), check_vma=False)
    return mapped(queries, rows, count)


def row_scores(queries: Array, rows: StoredRows) -> Array:
    """Multiply queries with stored rows.

    Float32 rows are multiplied in full precision. For others the queries are rounded to bfloat16, in which
    int8 is exact, and the products, exact too, are summed in float32.

    Args:
      queries: float32 `[B, D]`.
      rows: N rows.

    Returns:
      float32 `[B, N]`.
    """
    if rows.values.dtype == jnp.float32:
        # Accelerators multiply float32 in fewer bits unless told, and near ties would swap.
        return jnp.einsum("bd,nd->bn", queries, rows.values, precision=jax.lax.Precision.HIGHEST)
    rounded, values = queries.astype(jnp.bfloat16), rows.values.astype(jnp.bfloat16)
    scores = jnp.einsum("bd,nd->bn", rounded, values, preferred_element_type=jnp.float32)
    return scores if rows.scales is None else scores * jnp.broadcast_to(rows.scales, scores.shape)


def _best(scores: Array, ids: Array, k: int) -> tuple[Array, Array]:
    top, place = jax.lax.top_k(scores, k)
    return top, jnp.take_along_axis(ids, place, axis=1)
