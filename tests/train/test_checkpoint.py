"""Checkpoints: everything comes back, on another number of devices too; what does not fit is refused."""

import shutil
import subprocess
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from realm_jax.errors import CheckpointError
from realm_jax.train.checkpoint import Checkpoints
from realm_jax.train.state import TrainState, create_state, update
from tests.train.tiny import leaves, optimizer

ADAM = optimizer("encoder")
RECORD = {"phase": "realm", "data": {"position": {"a": [1, 2]}}, "config": {"seed": 3}, "index_version": 40}


def start(size: int = 8) -> TrainState:
    params = {
        "encoder": {"kernel": jnp.arange(float(size), dtype=jnp.float32), "bias": jnp.ones((2, size))},
        "embedder": {"kernel": jnp.full((size,), -1.5, jnp.float32)},
    }
    return create_state(params, optimizer=ADAM, trained=["encoder"], seed=7)


def trained(steps: int, size: int = 8) -> TrainState:
    def loss(params, key):
        value = jnp.sum(jnp.square(params["encoder"]["kernel"])) * jax.random.uniform(key)
        return value, {}

    step = jax.jit(lambda state: update(state, loss, optimizer=ADAM, trained=["encoder"])[0])
    state = start(size)
    for _ in range(steps):
        state = step(state)
    return state


def saved(folder, *steps, keep=3, pending=None):
    checkpoints = Checkpoints(folder, keep=keep)
    for step in steps:
        checkpoints.save(trained(step), record={**RECORD, "at": step}, pending=pending)
    checkpoints.close()


def assert_same(found, expected):
    found, expected = leaves(found), leaves(expected)
    assert found.keys() == expected.keys()
    for name, leaf in expected.items():
        assert found[name].dtype == leaf.dtype
        np.testing.assert_array_equal(found[name], leaf, err_msg=name)


def test_the_whole_state_comes_back(tmp_path):
    saved(tmp_path, 3)
    assert_same(Checkpoints(tmp_path).restore(start()), trained(3))


def test_k_steps_and_k_more_are_2k_steps(tmp_path):
    saved(tmp_path, 2)
    state = Checkpoints(tmp_path).restore(start())

    def loss(params, key):
        value = jnp.sum(jnp.square(params["encoder"]["kernel"])) * jax.random.uniform(key)
        return value, {}

    step = jax.jit(lambda state: update(state, loss, optimizer=ADAM, trained=["encoder"])[0])
    for _ in range(2):
        state = step(state)
    assert_same(state, trained(4))


def test_the_record_comes_back_as_json(tmp_path):
    saved(tmp_path, 1, 2)
    assert Checkpoints(tmp_path).record() == {**RECORD, "at": 2}
    assert Checkpoints(tmp_path).record(step=1) == {**RECORD, "at": 1}


def test_parameters_come_alone_as_host_arrays(tmp_path):
    saved(tmp_path, 1, 2)
    params = Checkpoints(tmp_path).restore_params()
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(params))
    assert_same(params, trained(2).params)
    assert_same(Checkpoints(tmp_path).restore_params(step=1), trained(1).params)


def test_the_snapshot_of_a_refresh_in_flight_comes_back(tmp_path):
    snapshot = {"embedder": {"kernel": np.arange(5, dtype=np.float32)}}
    saved(tmp_path, 2, pending=snapshot)
    like = {"embedder": {"kernel": np.zeros(5, np.float32)}}
    assert_same(Checkpoints(tmp_path).restore_pending(like), snapshot)
    assert_same(Checkpoints(tmp_path).restore(start()), trained(2))


def test_no_refresh_in_flight_is_no_snapshot(tmp_path):
    saved(tmp_path, 2)
    with pytest.raises(CheckpointError):
        Checkpoints(tmp_path).restore_pending({"embedder": {"kernel": np.zeros(5, np.float32)}})


def test_only_the_newest_are_kept(tmp_path):
    saved(tmp_path, 1, 2, 3, 4, keep=2)
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.steps() == [3, 4] and checkpoints.latest() == 4
    with pytest.raises(CheckpointError, match=r"got step 1\. It holds the steps \[3, 4\]"):
        checkpoints.record(step=1)


def test_saving_a_step_twice_keeps_the_first(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(trained(1), record={"time": "first"})
    checkpoints.save(trained(1), record={"time": "second"})
    checkpoints.close()
    assert Checkpoints(tmp_path).record() == {"time": "first"}


DIES = """
import sys
import jax.numpy as jnp, optax
from pathlib import Path
from realm_jax.train.checkpoint import Checkpoints
from realm_jax.train.state import create_state

params = {"encoder": {"kernel": jnp.ones((3000, 3000))}}
with Checkpoints(Path(sys.argv[1]), keep=2) as checkpoints:
    state = create_state(params, optimizer=optax.identity(), trained=[], seed=0)
    checkpoints.save(state, record={})
    raise RuntimeError("the loss is not finite")
"""


def test_what_is_still_being_saved_when_a_run_fails_is_saved(tmp_path):
    """Saving goes on in threads, which a process that ends with an error would cut short."""
    done = subprocess.run([sys.executable, "-c", DIES, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 1 and "the loss is not finite" in done.stderr.splitlines()[-1]
    assert Checkpoints(tmp_path).steps() == [0]


def test_a_folder_without_checkpoints_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="folder of a training run"):
        Checkpoints(tmp_path / "elsewhere")
    empty = Checkpoints(tmp_path, keep=1)
    assert empty.latest() is None and empty.steps() == []
    with pytest.raises(CheckpointError, match="no checkpoint"):
        empty.restore(start())


def test_a_half_written_checkpoint_is_never_the_newest(tmp_path):
    saved(tmp_path, 1)
    folder = tmp_path / "checkpoints"
    shutil.copytree(folder / "1", folder / "2.orbax-checkpoint-tmp-123")
    assert Checkpoints(tmp_path).latest() == 1
    assert_same(Checkpoints(tmp_path).restore(start()), trained(1))


def test_a_state_of_other_shapes_is_refused(tmp_path):
    saved(tmp_path, 1)
    with pytest.raises(CheckpointError, match=r"embedder\.kernel: float32\[8\] saved for float32\[9\]"):
        Checkpoints(tmp_path).restore(start(size=9))


def test_a_state_with_other_parts_is_refused(tmp_path):
    saved(tmp_path, 1)
    state = start()
    more = replace(state, params={**state.params, "reader": {"kernel": jnp.ones(2)}})
    with pytest.raises(CheckpointError, match=r"reader\.kernel: nothing saved for float32\[2\]"):
        Checkpoints(tmp_path).restore(more)
    fewer = replace(state, params={"encoder": state.params["encoder"]})
    with pytest.raises(CheckpointError, match=r"embedder\.kernel: float32\[8\] saved for nothing"):
        Checkpoints(tmp_path).restore(fewer)


@pytest.mark.parametrize("to_many", [True, False])
def test_a_checkpoint_restores_on_another_number_of_devices(tmp_path, to_many):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))

    def spread(state):
        """Split what can be split over eight devices, and copy the rest to all of them."""

        def place(leaf):
            spec = PartitionSpec("data") if leaf.shape == (8,) else PartitionSpec()
            return jax.device_put(leaf, NamedSharding(mesh, spec))

        return jax.tree.map(place, state)

    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(trained(2) if to_many else spread(trained(2)), record=RECORD)
    checkpoints.close()
    target = spread(start()) if to_many else start()
    found = Checkpoints(tmp_path).restore(target)
    assert_same(found, trained(2))
    for leaf, wanted in zip(jax.tree.leaves(found), jax.tree.leaves(target), strict=True):
        assert leaf.sharding.device_set == wanted.sharding.device_set
    assert_same(Checkpoints(tmp_path).restore_params(), trained(2).params)
