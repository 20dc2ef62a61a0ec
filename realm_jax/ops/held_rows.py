"""Take rows of arrays that are split over all devices of a mesh, inside a compiled step."""

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from realm_jax.types import Array


def take_rows(held: Array, places: Array, *, mesh: Mesh | None, split: tuple[str, ...] = ()) -> Array:
    """Take rows by their places in the whole arrays.

    Every device takes those it holds and zeros for the others; the sum over all devices is the result. So a
    device has what is asked for in memory, and never the rows of another.

    Args:
      held: a pytree of integer arrays `[N, ...]`; on a mesh the rows are split over all devices in order.
      places: int32 `[B, ...]`, 0 to N - 1.
      mesh: the devices; None is the default device.
      split: mesh axes that axis 0 of the result is split over; none: it is the same on every device.

    Returns:
      The same pytree, int32 `[B, ..., ...]`.
    """
    if mesh is None:
        return jax.tree.map(lambda leaf: leaf[places].astype(jnp.int32), held)
    axes = mesh.axis_names
    others = tuple(axis for axis in axes if axis not in split)

    def local(held: Array, places: Array) -> Array:
        def take(leaf: Array) -> Array:
            own = places - jax.lax.axis_index(axes) * leaf.shape[0]
            found = leaf[jnp.clip(own, 0, leaf.shape[0] - 1)].astype(jnp.int32)
            here = jnp.expand_dims((own >= 0) & (own < leaf.shape[0]), range(own.ndim, found.ndim))
            found = jnp.where(jnp.broadcast_to(here, found.shape), found, 0)
            if split:
                found = jax.lax.psum_scatter(found, split, scatter_dimension=0, tiled=True)
            return jax.lax.psum(found, others)

        return jax.tree.map(take, held)

    rows = jax.tree.map(lambda _: PartitionSpec(axes), held)
    result = jax.tree.map(lambda _: PartitionSpec(split or None), held)
    mapped = jax.shard_map(local, mesh=mesh, in_specs=(rows, PartitionSpec()), out_specs=result)
    return mapped(held, places)
