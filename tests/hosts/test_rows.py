"""Which rows a process holds, for every way in which a mesh may lie across processes."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from realm_jax.hosts.rows import EVERY_ROW, BatchShare, gather_rows, held_rows, own_rows, place_rows
from realm_jax.mesh import make_mesh, split_rows

AXES = ("data", "fsdp", "tensor")


def mesh_of(owners, sizes):
    """A mesh of devices that belong to the processes named, in order."""
    devices = np.array([SimpleNamespace(process_index=owner) for owner in owners], object).reshape(sizes)
    return SimpleNamespace(devices=devices, shape=dict(zip(AXES, sizes, strict=True)))


@pytest.mark.parametrize(
    ("owners", "sizes", "rows"),
    [
        ([0, 0, 1, 1], (4, 1, 1), [[0, 1, 2, 3], [4, 5, 6, 7]]),
        ([0, 0, 1, 1], (1, 4, 1), [[0, 1, 2, 3], [4, 5, 6, 7]]),
        ([0, 0, 1, 1], (2, 1, 2), [[0, 1, 2, 3], [4, 5, 6, 7]]),
        ([0, 1, 0, 1], (2, 1, 2), [[0, 1, 2, 3, 4, 5, 6, 7]] * 2),  # tensor reaches across processes
        ([0, 0, 1, 1], (1, 1, 4), [[0, 1, 2, 3, 4, 5, 6, 7]] * 2),
        ([1, 0, 0, 1], (4, 1, 1), [[2, 3, 4, 5], [0, 1, 6, 7]]),  # as the topology of a slice may want it
    ],
)
def test_a_process_holds_the_rows_of_its_devices(owners, sizes, rows):
    mesh = mesh_of(owners, sizes)
    for process, expected in enumerate(rows):
        np.testing.assert_array_equal(own_rows(mesh, 8, process), expected)


def test_one_process_holds_every_row_and_exchanges_nothing():
    mesh = make_mesh(data=2, fsdp=2, tensor=2)
    tree = {"a": np.arange(8), "b": np.arange(16).reshape(8, 2)}
    np.testing.assert_array_equal(own_rows(mesh, 8), np.arange(8))
    for same in (place_rows(tree, mesh), gather_rows(tree, mesh), BatchShare(mesh, whole=True).own(tree)):
        assert same is tree
    for share in (EVERY_ROW, BatchShare(mesh), BatchShare(mesh, whole=True)):
        assert share.drawn(8) is None
        assert share.drawn_of_own(tree) is tree
        np.testing.assert_array_equal(share.held(tree["b"]), tree["b"])
    split = jax.device_put(tree["b"], split_rows(mesh))
    np.testing.assert_array_equal(held_rows(split, mesh), tree["b"])
