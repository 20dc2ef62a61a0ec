"""The exact engine: every block is scored, on the device or on all devices of a mesh."""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax.sharding import Mesh

from realm_jax.index.protocol import HERE, Storage
from realm_jax.mesh import in_order, split_over_all, whole
from realm_jax.ops.topk import StoredRows, top_k_rows
from realm_jax.types import Array, Search

# Together they bound the scores in memory at once to 64 MiB, however many queries and blocks there are.
ROWS_PER_BLOCK = 1 << 14
QUERIES_PER_CALL = 1 << 10


class RowLayout(NamedTuple):
    """How many rows the devices keep, and how many each of them scores at a time."""

    total: int  # padding included
    rows_per_block: int


def layout_of(count: int, *, devices: int) -> RowLayout:
    """Choose the layout of `count` rows: every device has the same number of equal blocks of them."""
    # Equal parts: one row more than a full part must not cost a whole part of padding.
    share = -(-count // devices)
    parts = max(1, -(-share // ROWS_PER_BLOCK))
    rows = max(64, -(-share // parts))
    return RowLayout(devices * rows * -(-share // rows), rows)


class ExactIndex:
    """Search all rows on the device, or each device its share.

    Args:
      embeddings: float32 `[N, D]`.
      storage: where and how the rows are kept.

    Attributes:
      rows: as they are kept, laid out by `layout_of`.
    """

    recall: ClassVar[float | None] = None  # share of the true nearest that is asked for; None: all

    def __init__(self, embeddings: np.ndarray, storage: Storage = HERE):
        self._count = embeddings.shape[0]
        mesh = storage.mesh
        layout = layout_of(self._count, devices=1 if mesh is None else mesh.size)
        self.rows = keep_rows(embeddings, total=layout.total, storage=storage)
        self._place = partial(jax.device_put, device=whole(mesh))
        program = partial(top_k_rows, rows_per_block=layout.rows_per_block, mesh=mesh, recall=self.recall)
        self._program = program if mesh is None else in_order(program)

    def __len__(self) -> int:
        return self._count

    def search(self, query_embeddings: np.ndarray, k: int) -> Search:
        """Find the k best blocks of each query; see `Index.search`. Ties go to the lower id."""
        queries = np.asarray(query_embeddings, np.float32)
        if len(queries) <= QUERIES_PER_CALL:
            return Search(*self._search(queries, k))
        # One program for every part, the last one included.
        padded = np.pad(queries, ((0, -len(queries) % QUERIES_PER_CALL), (0, 0)))
        parts = [self._search(part, k) for part in padded.reshape(-1, QUERIES_PER_CALL, queries.shape[1])]
        scores, block_ids = (np.concatenate(side)[: len(queries)] for side in zip(*parts, strict=True))
        return Search(scores=scores, block_ids=block_ids)

    def _search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        count = np.int32(self._count)
        scores, rows = self._program(self._place(queries), self.rows, self._place(count), k=k)
        return np.asarray(scores), np.asarray(rows)


def keep_rows(embeddings: np.ndarray, *, total: int, storage: Storage) -> StoredRows:
    """Put rows where they are searched, without a second copy of all of them on the host.

    Args:
      embeddings: float32 `[N, D]`; may be a memory map.
      total: rows with padding; a multiple of the devices.
      storage: where and how.
    """

    def values(start: int, stop: int) -> np.ndarray:
        rows = np.asarray(embeddings[start:stop], np.float32)
        if storage.dtype == "int8":
            rows = np.rint(rows / row_scales(rows)[:, None]).astype(np.int8)
        elif storage.dtype == "bfloat16":
            rows = rows.astype(ml_dtypes.bfloat16)
        return np.pad(rows, ((0, stop - start - len(rows)), (0, 0)))

    def scales(start: int, stop: int) -> np.ndarray:
        found = row_scales(np.asarray(embeddings[start:stop], np.float32))
        return np.pad(found, (0, stop - start - len(found)))

    return StoredRows(
        values=spread_rows(values, (total, embeddings.shape[1]), mesh=storage.mesh),
        scales=spread_rows(scales, (total,), mesh=storage.mesh) if storage.dtype == "int8" else None,
    )


def spread_rows(
    part: Callable[[int, int], np.ndarray], shape: tuple[int, ...], *, mesh: Mesh | None
) -> Array:
    """Put an array on the devices, its rows split over all of them in order.

    Args:
      part: rows [start, stop) of the array; asked for what a device keeps, one device after the other.
      shape: of the array; its rows are a multiple of the devices.
      mesh: the devices; None is the default device.
    """

    def of_device(at: Any) -> np.ndarray:
        start, stop, _ = at[0].indices(shape[0])
        return part(start, stop)

    if mesh is None:
        return jnp.asarray(part(0, shape[0]))
    return jax.make_array_from_callback(shape, split_over_all(mesh), of_device)


def row_scales(rows: np.ndarray) -> np.ndarray:
    """Choose what one step of int8 is worth in each row: float32 `[N]`, 1/127 of its largest value."""
    largest = np.abs(rows).max(axis=1, initial=0.0)
    return np.where(largest > 0, largest / 127, 1).astype(np.float32)
