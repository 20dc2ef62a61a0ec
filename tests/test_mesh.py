"""The mesh: sizes that fit, one device is none, work is started in one order."""

import threading

import jax
import pytest
from jax.sharding import AxisType

from realm_jax.errors import ConfigError
from realm_jax.mesh import AXES, batch_shards, check_rows, in_order, make_mesh, split_over_all, whole


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
