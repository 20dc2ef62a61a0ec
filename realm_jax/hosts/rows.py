"""Which rows of a batch a process holds, and how they become those of all.

`gather_rows` and `collected` exchange through the devices, as training does: every process asks for them on
its main thread, so that they come in the same order everywhere. Nothing else here is exchanged.

Letters: B rows of a batch, b those of them that this process holds.
"""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import Mesh

from realm_jax.mesh import batch_shards, split_rows
from realm_jax.types import Array, tree_rows


def own_rows(mesh: Mesh | None, count: int, process: int | None = None) -> np.ndarray:
    """Return which rows of a batch the devices of a process hold.

    Args:
      mesh: the devices of the run.
      count: B, a multiple of the devices of a batch.
      process: its number; None is this one.

    Returns:
      int64 `[b]`, ascending. Processes may hold the same rows, where `mesh.tensor` reaches across them.
    """
    if mesh is None:
        return np.arange(count)
    each = count // batch_shards(mesh)
    held = _own_shards(mesh, jax.process_index() if process is None else process)
    return np.concatenate([np.arange(shard * each, (shard + 1) * each) for shard in held])


def place_rows(tree: Any, mesh: Mesh | None) -> Any:
    """Make global arrays `[B, ...]` of the rows that each process holds.

    Args:
      tree: a pytree of NumPy arrays `[b, ...]`; arrays that lie on the devices are left as they are.
      mesh: the devices of the run.

    Returns:
      The same tree of arrays split by rows; on one process the tree as it is, which jit takes.
    """
    if mesh is None or jax.process_count() == 1:
        return tree
    held, sharding = _own_shards(mesh, jax.process_index()), split_rows(mesh)

    def place(leaf: Array) -> Array:
        if isinstance(leaf, jax.Array):
            return leaf
        each = leaf.shape[0] // len(held)

        def of_device(at: Any) -> np.ndarray:
            shard = (at[0].start or 0) // each
            first = held.index(shard) * each
            return leaf[first : first + each]

        shape = (each * batch_shards(mesh), *leaf.shape[1:])
        return jax.make_array_from_callback(shape, sharding, of_device)

    return jax.tree.map(place, tree)


def held_rows(array: Array, mesh: Mesh | None) -> np.ndarray:
    """Bring the rows `[b, ...]` that this process holds to the host; nothing is exchanged.

    Args:
      array: `[B, ...]`, of a program that left it split by rows, or a whole NumPy array.
      mesh: the devices of the run.
    """
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        parts = {shard.index[0].start or 0: shard.data for shard in array.addressable_shards}
        return np.concatenate([np.asarray(parts[start]) for start in sorted(parts)])
    rows = np.asarray(array)
    return rows if jax.process_count() == 1 else rows[own_rows(mesh, len(rows))]


def gather_rows(tree: Any, mesh: Mesh | None) -> Any:
    """Return the rows of all processes to each of them; asked for by all, on their main threads.

    Args:
      tree: a pytree of NumPy arrays `[b, ...]`.
      mesh: the devices of the run.

    Returns:
      The same tree of `[B, ...]`.
    """
    if mesh is None or jax.process_count() == 1:
        return tree

    def gather(leaf: np.ndarray) -> np.ndarray:
        parts = process_allgather(leaf)
        count = leaf.shape[0] // len(_own_shards(mesh, jax.process_index())) * batch_shards(mesh)
        out = np.empty((count, *leaf.shape[1:]), leaf.dtype)
        for process, part in enumerate(parts):
            out[own_rows(mesh, count, process)] = part
        return out

    return jax.tree.map(gather, tree)


def collected(array: Array) -> np.ndarray:
    """Return a global array to the host of every process; asked for by all, on their main threads."""
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        return process_allgather(array, tiled=True)
    return np.asarray(array)


@dataclass(frozen=True)
class BatchShare:
    """What a process reads of every batch.

    Attributes:
      mesh: the devices of the run.
      whole: every process reads all rows, as a phase must that draws something for a batch as a whole; each
        still searches for its own alone.
    """

    mesh: Mesh | None = None
    whole: bool = False

    def drawn(self, count: int) -> np.ndarray | None:
        """Return which of the B rows of a batch are drawn, int64 `[b]`; None: all."""
        return None if self.whole or jax.process_count() == 1 else own_rows(self.mesh, count)

    def own(self, tree: Any) -> Any:
        """Keep this process's rows of what was drawn: `[b, ...]`, NumPy arrays."""
        if not self.whole or jax.process_count() == 1:
            return tree
        return tree_rows(tree, own_rows(self.mesh, jax.tree.leaves(tree)[0].shape[0]))

    def drawn_of_own(self, tree: Any) -> Any:
        """Complete what each process has found for its own rows to what was drawn."""
        return gather_rows(tree, self.mesh) if self.whole else tree

    def held(self, array: Array) -> np.ndarray:
        """Bring this process's rows of a global array to the host; see `held_rows`."""
        return held_rows(array, self.mesh)


EVERY_ROW = BatchShare()  # of the one process there is


def _own_shards(mesh: Mesh, process: int) -> list[int]:
    """Number the parts of a batch that a process holds."""
    grid = mesh.devices.reshape(batch_shards(mesh), -1)
    return [shard for shard, row in enumerate(grid) if any(device.process_index == process for device in row)]
