"""The state and its update, on models of one weight."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from realm_jax.train.state import create_state, update
from tests.train.tiny import leaves, optimizer

PARAMS = {
    "encoder": {"kernel": jnp.asarray([2.0, -1.0], jnp.float32)},
    "embedder": {"kernel": jnp.asarray([3.0], jnp.float32)},
    "reader": {"kernel": jnp.asarray([7.0], jnp.float32)},
}


def squares(params, key):
    """Half the squares of all weights, so that every gradient is the weight itself."""
    total = sum(jnp.sum(jnp.square(part["kernel"])) for part in params.values()) * jnp.float32(0.5)
    return total, {"loss": (total, jnp.float32(1))}


@pytest.mark.parametrize("trained", [["encoder"], ["encoder", "embedder"]])
def test_only_the_named_parts_move(trained):
    """Weight decay would move the others too, were they handed to the optimiser with zero gradients."""
    adam = optimizer(*trained)
    state = create_state(PARAMS, optimizer=adam, trained=trained, seed=0)
    for _ in range(3):
        state, _ = update(state, squares, optimizer=adam, trained=trained)
    for name, part in PARAMS.items():
        unmoved = (np.asarray(state.params[name]["kernel"]) == np.asarray(part["kernel"])).all()
        assert unmoved == (name not in trained), name
    assert int(state.step) == 3


def test_moments_are_kept_for_the_trained_parts_only():
    state = create_state(PARAMS, optimizer=optimizer("encoder"), trained=["encoder"], seed=0)
    moments = [leaf for name, leaf in leaves(state.opt_state).items() if name.endswith(".kernel")]
    assert [m.shape for m in moments] == [(2,), (2,)]


def test_a_step_is_that_of_the_optimiser():
    sgd = optax.sgd(0.25)
    state = create_state(PARAMS, optimizer=sgd, trained=["encoder"], seed=0)
    state, _ = update(state, squares, optimizer=sgd, trained=["encoder"])
    np.testing.assert_allclose(state.params["encoder"]["kernel"], [1.5, -0.75])  # w - 0.25 w


def test_norms_are_those_of_the_trained_parts():
    sgd = optax.sgd(0.5)
    trained = ["encoder", "embedder"]
    state = create_state(PARAMS, optimizer=sgd, trained=trained, seed=0)
    _, metrics = update(state, squares, optimizer=sgd, trained=trained)
    norm = np.sqrt(2.0**2 + 1.0**2 + 3.0**2)
    expected = {"gradient_norm": norm, "update_norm": norm / 2, "parameter_norm": norm / 2}
    for name, value in expected.items():
        assert float(metrics[name][0]) == pytest.approx(value, rel=1e-6) and metrics[name][1] == 1
    assert float(metrics["loss"][0]) == pytest.approx(0.5 * (4 + 1 + 9 + 49))


def test_every_step_has_a_dropout_key_of_its_own_that_a_resumed_run_gets_again():
    sgd = optax.sgd(0.0)
    seen = []

    def loss(params, key):
        seen.append(np.asarray(jax.random.key_data(key)).tolist())
        return squares(params, key)

    def keys_from(step, seed):
        del seen[:]
        state = create_state(PARAMS, optimizer=sgd, trained=["encoder"], seed=seed)
        state = type(state)(jnp.int32(step), state.params, state.opt_state, state.key)
        for _ in range(4 - step):
            state, _ = update(state, loss, optimizer=sgd, trained=["encoder"])
        return list(seen)

    whole = keys_from(0, seed=5)
    assert len({tuple(key) for key in whole}) == 4
    assert keys_from(2, seed=5) == whole[2:]
    assert not {tuple(key) for key in whole} & {tuple(key) for key in keys_from(0, seed=6)}


def test_compiled_equals_plain_and_two_runs_are_the_same_bits():
    adam = optimizer("encoder", "embedder")
    trained = ["encoder", "embedder"]

    def run(step):
        state = create_state(PARAMS, optimizer=adam, trained=trained, seed=0)
        for _ in range(3):
            state, _ = step(state)
        return leaves(state)

    def plain(state):
        return update(state, squares, optimizer=adam, trained=trained)

    compiled = jax.jit(plain)
    first, second, slow = run(compiled), run(compiled), run(plain)
    for name, leaf in first.items():
        np.testing.assert_array_equal(leaf, second[name])
        np.testing.assert_allclose(leaf, slow[name], rtol=1e-6)


def test_a_module_of_a_part_can_be_trained_alone():
    params = {
        "reader": {"start": PARAMS["encoder"], "bert": PARAMS["reader"]},
        "embedder": PARAMS["embedder"],
    }

    def loss(params, key):
        return squares({"a": params["reader"]["start"], "b": params["reader"]["bert"]}, key)

    adam = optimizer("reader/start")
    state = create_state(params, optimizer=adam, trained=["reader/start"], seed=0)
    for _ in range(3):
        state, _ = update(state, loss, optimizer=adam, trained=["reader/start"])
    moved = {
        name: not np.array_equal(leaf, leaves(params)[name]) for name, leaf in leaves(state.params).items()
    }
    assert {name for name, has_moved in moved.items() if has_moved} == {
        name for name in moved if "start" in name
    }
