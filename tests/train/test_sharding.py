"""Steps and states on a mesh: the same loss, gradients and parameters as on one device."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from realm_jax.errors import ConfigError
from realm_jax.mesh import make_mesh
from realm_jax.train.compile import make_step
from realm_jax.train.sharding import logical_axes, make_sharded, param_shardings, state_shardings
from realm_jax.train.state import create_state, picked
from tests.train.tiny import ACCUMULATE, CASES, leaves, models, optimizer, random_params

MODELS = models()
PARAMS = random_params(MODELS)
SHAPES = jax.eval_shape(MODELS.init, jax.random.key(0))
MESHES = [(8, 1, 1), (1, 8, 1), (2, 2, 2), (4, 1, 2)]
DESCENT = optax.sgd(0.1)


def mesh_of(sizes):
    return make_mesh(**dict(zip(("data", "fsdp", "tensor"), sizes, strict=True)))


def two_steps(name, mesh=None, **options):
    """Return metrics of the first step, parameters after the first and after the second."""
    loss, trained, inputs = CASES[name](MODELS, np.random.default_rng(0))
    others = CASES[name](MODELS, np.random.default_rng(1))[2]
    state = create_state(jax.tree.map(jnp.asarray, PARAMS), optimizer=DESCENT, trained=trained, seed=0)
    if mesh is not None:
        state = jax.device_put(state, state_shardings(mesh, state))
        options |= {"mesh": mesh, "state": state}
    step = make_step(loss, optimizer=DESCENT, trained=trained, dropout=False, **options)
    state, metrics = step(state, *inputs)
    first = leaves(state.params)
    state, _ = step(state, *others)
    return leaves(metrics), first, leaves(state.params), state


def assert_close(found, expected, *, relative=1e-4):
    """Compare leaf by leaf, small values by the scale of all."""
    assert found.keys() == expected.keys()
    scale = max(np.abs(leaf).max() for leaf in expected.values())
    for name, leaf in expected.items():
        np.testing.assert_allclose(found[name], leaf, rtol=relative, atol=relative * scale, err_msg=name)


def gradients(params):
    """What a step of plain descent took off the parameters, by its rate."""
    return {name: (leaf - params[name]) / 0.1 for name, leaf in leaves(PARAMS).items()}


def paths(tree):
    return jax.tree_util.tree_leaves_with_path(tree)


@pytest.fixture(scope="module")
def whole_params():
    return leaves(jax.jit(MODELS.init)(jax.random.key(3)))


@pytest.fixture(scope="module")
def single():
    return {name: two_steps(name) for name in CASES}


@pytest.mark.parametrize("sizes", MESHES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_two_steps_on_a_mesh_are_those_of_one_device(single, name, sizes):
    mesh = mesh_of(sizes)
    metrics, first, second, state = two_steps(name, mesh)
    wanted = single[name]
    for key, value in wanted[0].items():
        np.testing.assert_allclose(metrics[key], value, rtol=1e-4, err_msg=key)
    assert max(np.abs(leaf).max() for leaf in gradients(wanted[1]).values()) > 1e-3
    assert_close(gradients(first), gradients(wanted[1]))
    assert_close(second, wanted[2], relative=1e-5)
    kernel = state.params["embedder"]["bert"]["layers_0"]["attention"]["query"]["kernel"]
    assert kernel.sharding.shard_shape((16, 16)) == (16 // sizes[1], 16 // sizes[2])


@pytest.mark.parametrize("name", CASES)
def test_two_steps_in_microbatches_on_a_mesh_are_those_of_one_device(single, name):
    """Negatives of the inverse cloze task are those of the whole batch, whatever the microbatch."""
    accumulate = ACCUMULATE[name](MODELS)
    metrics, first, second, _ = two_steps(name, mesh_of((2, 2, 2)), microbatches=2, accumulate=accumulate)
    for key, value in single[name][0].items():
        np.testing.assert_allclose(metrics[key], value, rtol=1e-4, err_msg=key)
    assert_close(gradients(first), gradients(single[name][1]))
    assert_close(second, single[name][2], relative=1e-5)


@pytest.mark.parametrize("sizes", [(1, 8, 1), (2, 2, 2)], ids=str)
def test_parameters_made_in_parts_are_those_made_whole(whole_params, sizes):
    """And so is the whole state; the moments lie where their parameters do."""
    mesh, trained = mesh_of(sizes), ["embedder", "encoder", "reader/start", "reader/span_norm"]
    params = make_sharded(jax.jit(MODELS.init), jax.random.key(3), mesh=mesh)
    for name, leaf in leaves(params).items():
        np.testing.assert_array_equal(leaf, whole_params[name])
    start = partial(create_state, optimizer=optimizer(*trained), trained=trained, seed=5)
    state = make_sharded(start, params, mesh=mesh)
    for name, leaf in leaves(start(params)).items():
        np.testing.assert_array_equal(leaves(state)[name], leaf)
    at = {jax.tree_util.keystr(p, simple=True, separator="."): leaf.sharding for p, leaf in paths(state)}
    moments = [name for name in at if ".mu." in name or ".nu." in name]
    assert len(moments) == 2 * len(jax.tree.leaves([picked(params, name) for name in trained]))
    for name in moments:
        of = "params." + name.split(".mu." if ".mu." in name else ".nu.")[1].replace("/", ".")
        assert at[name] == at[of]
    assert state.key.sharding.is_fully_replicated and state.step.sharding.is_fully_replicated


def test_every_device_holds_its_share_of_what_can_be_split():
    mesh = mesh_of((2, 2, 2))
    placed = param_shardings(mesh, SHAPES)
    share = sum(
        np.prod(at.shard_shape(leaf.shape))
        for at, leaf in zip(jax.tree.leaves(placed), jax.tree.leaves(SHAPES), strict=True)
    )
    total = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(SHAPES))
    assert total / 4 < share < total / 2.5


def test_an_axis_that_does_not_divide_stays_whole():
    mesh = mesh_of((1, 1, 8))
    spec = param_shardings(mesh, {"word": {"embedding": np.zeros((30_522, 16))}})["word"]["embedding"].spec
    assert spec == PartitionSpec(None, "fsdp")


def test_gathered_parameters_are_split_over_the_tensor_axis_alone():
    specs = [at.spec for at in jax.tree.leaves(param_shardings(mesh_of((2, 2, 2)), SHAPES, gathered=True))]
    assert {axis for spec in specs for axis in spec} == {None, "tensor"}


def test_every_parameter_has_a_rule_of_its_rank_and_an_unknown_one_is_named():
    for path, leaf in paths(SHAPES):
        axes = logical_axes(jax.tree_util.keystr(path, simple=True, separator="/"))
        assert len(axes) == leaf.ndim
    with pytest.raises(ConfigError, match="got encoder/adapter/kernel"):
        logical_axes("encoder/adapter/kernel")


def test_a_step_on_a_mesh_is_traced_once():
    traces = []

    def loss(params, key, rows):
        traces.append(key)
        value = jnp.sum(params["encoder"]["bert"]["word"]["embedding"]) * jnp.sum(rows)
        return value, {"loss": (value, jnp.float32(1))}

    mesh = mesh_of((4, 2, 1))
    params = {"encoder": {"bert": {"word": {"embedding": jnp.ones((8, 4))}}}}
    state = create_state(params, optimizer=DESCENT, trained=["encoder"], seed=0)
    state = jax.device_put(state, state_shardings(mesh, state))
    step = make_step(loss, optimizer=DESCENT, trained=["encoder"], dropout=True, mesh=mesh, state=state)
    first = state
    for _ in range(3):
        state, _ = step(state, np.ones((8, 2), np.float32))
    assert len(traces) == 1 and traces[0] is not None
    assert first.params["encoder"]["bert"]["word"]["embedding"].is_deleted()
    kernel = state.params["encoder"]["bert"]["word"]["embedding"]
    # Every step takes off 0.1 x the sum over rows.
    np.testing.assert_allclose(kernel, 1 - 3 * 0.1 * 16, rtol=1e-6)
