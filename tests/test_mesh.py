"""The mesh: sizes that fit, one device is none, work is started in one order."""

import threading

import jax
import pytest
from jax.sharding import AxisType

from realm_jax.errors import ConfigError
from realm_jax.mesh import (
    AXES,
    batch_shards,
    check_rows,
    in_order,
    is_box,
    make_mesh,
    row_mesh,
    split_over_all,
    whole,
)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [((0, 1, 1), (8, 1, 1)), ((0, 2, 2), (2, 2, 2)), ((2, 1, 2), (2, 1, 2)), ((1, 8, 1), (1, 8, 1))],
)
def test_what_is_left_goes_to_data(sizes, expected):
    mesh = make_mesh(**dict(zip(AXES, sizes, strict=True)))
    assert tuple(mesh.shape[axis] for axis in AXES) == expected
    assert set(mesh.axis_types) == {AxisType.Auto}
    assert batch_shards(mesh) == expected[0] * expected[1]


def test_one_device_needs_no_mesh():
    assert make_mesh(data=1, fsdp=1, tensor=1) is None
    assert make_mesh(data=0, fsdp=1, tensor=1, devices=jax.devices()[:1]) is None
    assert batch_shards(None) == 1 and whole(None) is None


@pytest.mark.parametrize("sizes", [(16, 1, 1), (0, 3, 1), (0, 16, 1), (3, 3, 1)])
def test_sizes_that_do_not_fit_are_refused(sizes):
    with pytest.raises(ConfigError, match="for 8 devices"):
        make_mesh(**dict(zip(AXES, sizes, strict=True)))


def test_all_devices_hold_rows_in_their_order():
    """The order in which the index numbers its rows."""
    mesh = make_mesh(data=2, fsdp=2, tensor=2)
    places = split_over_all(mesh).devices_indices_map((16, 3))
    starts = [places[device][0].start or 0 for device in mesh.devices.flat]
    assert starts == list(range(0, 16, 2))


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([(x, y, 0) for x in range(4) for y in range(4)], True),
        (
            [(x, y, 0) for x in (2, 3) for y in (2, 3)] * 2,
            True,
        ),  # a host's, of two cores
        ([(x, y, 0) for x in range(4) for y in range(4) if (x % 2, y % 2) != (1, 1)], False),
        ([(1, 1, 0), (3, 1, 0)], False),
        ([None] * 3, True),
    ],
)
def test_chips_that_leave_gaps_are_no_box(places, expected):
    assert is_box(places) is expected


class Chip:
    """As much of a TPU's chip as `jax.make_mesh` looks at."""

    platform, device_kind, process_index, core_on_chip = "tpu", "TPU v5 lite", 0, 0

    def __init__(self, number, coords):
        self.id, self.coords = number, coords


def test_chips_of_a_slice_that_others_are_spared_from_make_a_mesh_in_their_order():
    """The torus of a whole slice is JAX's business; it takes no part of one."""
    chips = [Chip(number, (number % 4, number // 4, 0)) for number in range(16)]
    training = [chip for chip in chips if chip.coords[0] < 3 or chip.coords[1] % 2]
    with pytest.raises(AssertionError):
        jax.make_mesh((7, 2, 1), AXES, devices=training)
    assert make_mesh(data=0, fsdp=2, tensor=1, devices=training).devices.ravel().tolist() == training
    assert row_mesh(chips[3:5]).devices.ravel().tolist() == chips[3:5]
    whole_slice = make_mesh(data=0, fsdp=4, tensor=1, devices=chips)
    assert whole_slice.devices.shape == (4, 4, 1) and set(whole_slice.devices.flat) == set(chips)


def test_a_batch_that_does_not_divide_is_named():
    check_rows("realm.batch_size", 8, parts=4)
    with pytest.raises(ConfigError, match=r"realm\.batch_size must be .* got 6 rows for 4 devices"):
        check_rows("realm.batch_size", 6, parts=4)


def test_one_program_is_started_after_the_other():
    inside, together = threading.Semaphore(1), []
    both = threading.Barrier(2)

    @in_order
    def program(value):
        together.append(not inside.acquire(blocking=False))
        done = value + 1
        if not together[-1]:
            inside.release()
        return done

    def start():
        both.wait()
        for value in range(200):
            assert program(value) == value + 1

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(together) == 400 and not any(together)
