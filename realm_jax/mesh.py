"""The mesh: the devices of a run in a grid of three axes, and the order in which they are given work.

Rows of a batch are split over `data` and `fsdp`, parameters over `fsdp` and `tensor`. Which array is split
how stands in `train/sharding.py`.
"""

import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from realm_jax.errors import ConfigError

AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")

_ORDER = threading.Lock()


def make_mesh(
    *, data: int, fsdp: int, tensor: int, devices: Sequence[jax.Device] | None = None
) -> Mesh | None:
    """Lay devices out.

    Args:
      data: devices the batch is split over; 0: as many as the other two axes leave.
      fsdp: devices both batch and parameters are split over.
      tensor: devices heads, feed-forward width and vocabulary are split over.
      devices: which; None: all there are.

    Returns:
      The mesh; None where it has a single device, on which nothing need be laid out.

    Raises:
      ConfigError: there are too few devices, or 0 does not come out even.
    """
    available = jax.devices() if devices is None else devices
    sizes = mesh_sizes(data=data, fsdp=fsdp, tensor=tensor, count=len(available))
    wanted = math.prod(sizes)
    if len({device.process_index for device in available}) > 1 and wanted != len(available):
        raise ConfigError(
            "the mesh of several processes takes all their devices",
            got=f"{wanted} of {len(available)} devices of {jax.process_count()} processes",
            remedy="Set mesh.data to 0, or start fewer processes.",
        )
    if wanted == 1:
        return None
    return _laid_out(sizes, available[:wanted])


def mesh_sizes(*, data: int, fsdp: int, tensor: int, count: int) -> tuple[int, int, int]:
    """Choose the sizes of the axes for a number of devices; see `make_mesh`.

    Raises:
      ConfigError: there are too few devices, or 0 does not come out even.
    """
    sizes = (data or max(1, count // (fsdp * tensor)), fsdp, tensor)
    wanted = math.prod(sizes)
    if wanted > count or (not data and wanted != count):
        raise ConfigError(
            "mesh.data x mesh.fsdp x mesh.tensor must fit the devices",
            got=f"{data or 'all'} x {fsdp} x {tensor} for {count} devices",
            remedy="Choose sizes whose product is the number of devices; mesh.data 0 takes what is left.",
        )
    return sizes


def row_mesh(devices: Sequence[jax.Device]) -> Mesh:
    """Lay devices out for work on rows alone, all of them on the axis `data`; a single one too."""
    return _laid_out((len(devices), 1, 1), devices)


def _laid_out(sizes: tuple[int, int, int], devices: Sequence[jax.Device]) -> Mesh:
    """Make a mesh; where the chips of a TPU leave gaps, whose torus JAX cannot use, in their order."""
    # Auto: the compiler propagates shardings from the arguments; the axes are typed so explicitly.
    types = (AxisType.Auto,) * len(AXES)
    if is_box([getattr(device, "coords", None) for device in devices]):
        return jax.make_mesh(sizes, AXES, axis_types=types, devices=devices)
    return Mesh(np.asarray(devices, object).reshape(sizes), AXES, axis_types=types)


def is_box(places: Sequence[Sequence[int] | None]) -> bool:
    """Say whether chips fill a box of their torus; those that have no place in one count as if they did."""
    known = {tuple(place) for place in places if place is not None}
    sides = [max(ends) - min(ends) + 1 for ends in zip(*known, strict=True)]
    return len(known) == (math.prod(sides) if known else 0)


def batch_shards(mesh: Mesh | AbstractMesh | None) -> int:
    """Count the parts a batch is split into."""
    return 1 if mesh is None else mesh.shape["data"] * mesh.shape["fsdp"]


def split_rows(mesh: Mesh) -> NamedSharding:
    """Split axis 0 over the devices of a batch."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def split_over_all(mesh: Mesh) -> NamedSharding:
    """Split axis 0 over all devices, in their order in the mesh."""
    return NamedSharding(mesh, PartitionSpec(mesh.axis_names))


def whole(mesh: Mesh | None) -> NamedSharding | None:
    """Keep a copy on every device; None, the default device, without a mesh."""
    return None if mesh is None else NamedSharding(mesh, PartitionSpec())


def check_rows(name: str, rows: int, *, parts: int) -> None:
    """Refuse a batch that cannot be split evenly.

    Args:
      name: of the number in the config, for the error.
      rows: of a batch.
      parts: devices they are split over.

    Raises:
      ConfigError: the rows are no multiple of the parts.
    """
    if rows % parts:
        raise ConfigError(
            f"{name} must be a multiple of the devices its rows are split over",
            got=f"{rows} rows for {parts} devices",
            remedy="Change it, or the mesh: mesh.data 1 with the other axes 1 uses one device.",
        )


def in_order(program: Callable[..., Any]) -> Callable[..., Any]:
    """Start a program on all devices before another thread starts one.

    Programs that exchange data wait on each device for the same program on the others. Were the trainer and
    the refresher to start theirs at once, devices could get them in different orders and wait for ever.

    Args:
      program: a compiled function of several devices.
    """

    def start(*arguments: Any, **keywords: Any) -> Any:
        with _ORDER:
            return program(*arguments, **keywords)

    return start
