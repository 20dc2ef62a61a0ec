"""Parameters on the devices of several processes, and on those of one; nothing here is exchanged."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from realm_jax.mesh import make_mesh, whole
from realm_jax.types import Array


def put(tree: Any, shardings: Any) -> Any:
    """Lay out a tree that every process has whole; each device gets its part, and nothing is exchanged."""

    def place(leaf: Any, sharding: Any) -> Array:
        rows = np.asarray(leaf)
        return jax.make_array_from_callback(rows.shape, sharding, lambda at: rows[at])

    return jax.tree.map(place, tree, shardings)


def own_mesh(mesh: Mesh | None) -> Mesh | None:
    """Return the mesh of this process's devices: all of them where there is one process."""
    if mesh is None or jax.process_count() == 1:
        return mesh
    mine = own_devices(list(mesh.devices.flat))
    return make_mesh(data=len(mine), fsdp=1, tensor=1, devices=mine)


def own_devices(devices: Sequence[jax.Device]) -> list[jax.Device]:
    """Return those of this process."""
    return [device for device in devices if device.process_index == jax.process_index()]


def own_copy(tree: Any, mesh: Mesh | None) -> Any:
    """Put parameters that every device has whole where the programs of this process alone find them.

    Args:
      tree: global arrays, or NumPy arrays.
      mesh: of this process: from `own_mesh`, or of devices that do not train.
    """

    def copy(leaf: Any) -> Any:
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            if mesh is None:
                return leaf.addressable_data(0)
            parts = [shard.data for shard in leaf.addressable_shards]
            if {shard.device for shard in leaf.addressable_shards} == set(mesh.devices.flat):
                everywhere = NamedSharding(mesh, PartitionSpec())
                return jax.make_array_from_single_device_arrays(leaf.shape, everywhere, parts)
            leaf = parts[0]
        return jax.device_put(leaf, whole(mesh))

    return jax.tree.map(copy, tree)
