"""BERT's last layer computes the states that are wanted, and nothing changes by that."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from realm_jax.models.bert import Bert
from realm_jax.models.knowledge_encoder import gather_positions
from realm_jax.types import Tokens
from tests.tiny_run import quick_compilation

BERT = Bert(vocab_size=20, hidden_size=8, num_layers=2, num_heads=2, intermediate_size=16, max_positions=16)
IDS = np.random.default_rng(0).integers(0, 20, (3, 2, 12)).astype(np.int32)
TOKENS = Tokens(ids=IDS, mask=IDS > 2, segments=np.zeros_like(IDS))
POSITIONS = np.array([[0, 5], [7, 7], [11, 1]], np.int32)


def squares(params, bert, picks_before):
    """Of the states at the positions; picked in the last layer, or of all its states."""
    pick = partial(gather_positions, positions=POSITIONS)
    states = bert.apply(params, TOKENS, pick=pick if picks_before else None)
    return jnp.sum(jnp.square((states if picks_before else pick(states))[..., 0]))


def test_gradients_in_bfloat16_are_sums_in_float32():
    """Those of tables and biases are sums over all 32,768 tokens, of which bfloat16 would lose a part."""
    rng = np.random.default_rng(1)
    ids = rng.integers(0, 20, (2048, 16)).astype(np.int32)
    tokens = Tokens(ids=ids, mask=np.ones(ids.shape, bool), segments=np.tile(np.arange(16) // 8, (2048, 1)))
    weights = (rng.standard_normal((2048, 16, 8)) + 0.3).astype(np.float32)

    def loss(params, bert):
        return jnp.mean(bert.apply(params, tokens).astype(jnp.float32) * weights)

    with quick_compilation():
        params = jax.jit(BERT.init)(jax.random.key(0), TOKENS)
        gradient = jax.jit(jax.grad(loss), static_argnums=1)
        expected, found = gradient(params, BERT), gradient(params, replace(BERT, dtype=jnp.bfloat16))
    expected, found = (flatten_dict(tree["params"], sep="/") for tree in (expected, found))
    summed = [name for name in expected if name.endswith(("embedding", "output/bias", "intermediate/bias"))]
    assert len(summed) == 3 + 2 * 2
    for name in summed:
        off = np.linalg.norm(found[name] - expected[name]) / np.linalg.norm(expected[name])
        assert off < 0.015, f"{name}: off by {off:.3f}"


@pytest.mark.parametrize("name", ["none", "full"])
def test_states_that_are_picked_are_those_of_the_whole_row(name):
    with quick_compilation():
        bert = replace(BERT, rematerialisation=name)
        params = jax.jit(bert.init)(jax.random.key(0), TOKENS)
        both = jax.jit(jax.value_and_grad(squares), static_argnums=(1, 2))
        found, expected = both(params, bert, True), both(params, bert, False)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
