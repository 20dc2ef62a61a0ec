"""What a layer keeps for the backward pass changes memory, not numbers."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realm_jax.models.bert import REMATERIALISATIONS, Bert
from realm_jax.types import Tokens
from tests.tiny_run import quick_compilation

BERT = Bert(
    vocab_size=20,
    hidden_size=8,
    num_layers=1,
    num_heads=2,
    intermediate_size=16,
    max_positions=16,
    dropout=0.2,
)
IDS = np.random.default_rng(0).integers(0, 20, (3, 12)).astype(np.int32)
TOKENS = Tokens(ids=IDS, mask=IDS > 2, segments=np.zeros_like(IDS))


def squares(params, name):
    """Of the last states, with dropout."""
    bert = replace(BERT, rematerialisation=name)
    key = jax.random.key(1)
    return jnp.sum(jnp.square(bert.apply(params, TOKENS, deterministic=False, rngs={"dropout": key})[..., 0]))


@pytest.fixture(scope="module", autouse=True)
def quick():
    with quick_compilation():
        yield


@pytest.fixture(scope="module")
def params():
    return jax.jit(BERT.init)(jax.random.key(0), TOKENS)


@pytest.fixture(scope="module")
def expected(params):
    return jax.jit(jax.value_and_grad(squares), static_argnums=1)(params, "none")


@pytest.mark.parametrize("name", [name for name in REMATERIALISATIONS if name != "none"])
def test_loss_and_gradients_are_the_same_with_dropout(params, expected, name):
    found = jax.jit(jax.value_and_grad(squares), static_argnums=1)(params, name)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_parameters_keep_their_names(params):
    made = jax.eval_shape(replace(BERT, rematerialisation="full").init, jax.random.key(0), TOKENS)
    assert jax.tree.structure(made) == jax.tree.structure(params)


def test_each_policy_keeps_less_than_the_one_before(params):
    kept = {}
    for name in REMATERIALISATIONS:
        pull = jax.eval_shape(
            lambda params, which=name: jax.vjp(lambda p: squares(p, which), params)[1], params
        )
        kept[name] = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(pull))
    assert kept["full"] < 0.7 * kept["matmuls"] < 0.7 * kept["none"]
