"""Attention with and without keys against the textbook's formula, and the choice between them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realm_jax.ops.attention import Affine, attention_products, cheapest, with_keys, without_keys

ASKING, LENGTH, HEADS, WIDTH = 3, 7, 2, 4
HIDDEN = HEADS * WIDTH
BOTH = pytest.mark.parametrize("attend", [with_keys, without_keys])


def drawn(*, leading=(2, 5), seed=0):
    """Return the arguments of an Attend, and weights that add up to anything, as under dropout."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    keys, values = (Affine(normal(HIDDEN, HEADS, WIDTH), normal(HEADS, WIDTH)) for _ in range(2))
    query, hidden = normal(*leading, ASKING, HEADS, WIDTH), normal(*leading, LENGTH, HIDDEN)
    return (
        query,
        hidden,
        keys,
        values,
        rng.uniform(0, 2, (*leading, HEADS, ASKING, LENGTH)).astype(np.float32),
    )


@BOTH
@pytest.mark.parametrize("leading", [(), (6,), (2, 5)])
def test_scores_and_contexts_are_those_of_keys_and_values(attend, leading):
    query, hidden, keys, values, weights = drawn(leading=leading)
    scores, mix = attend(query, hidden, keys, values)
    contexts = mix(weights)
    assert scores.shape == weights.shape and contexts.shape == query.shape
    for place in np.ndindex(*leading):
        for head in range(HEADS):
            key = hidden[place].astype(np.float64) @ keys.kernel[:, head] + keys.bias[head]
            value = hidden[place].astype(np.float64) @ values.kernel[:, head] + values.bias[head]
            expected = query[place][:, head] @ key.T
            np.testing.assert_allclose(scores[place][head], expected, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(
                contexts[place][:, head], weights[place][head] @ value, rtol=1e-4, atol=1e-4
            )


def test_gradients_are_the_same_by_every_argument():
    *arguments, weights = drawn()

    def loss(attend, query, hidden, keys, values):
        scores, mix = attend(query, hidden, keys, values)
        return jnp.sum(jnp.tanh(scores)) + jnp.sum(jnp.tanh(mix(weights * jax.nn.softmax(scores))))

    gradient = jax.jit(jax.grad(loss, argnums=(1, 2, 3, 4)), static_argnums=0)
    found, expected = gradient(without_keys, *arguments), gradient(with_keys, *arguments)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=2e-4)


@BOTH
def test_scores_are_float32_and_contexts_are_of_the_compute_dtype(attend):
    query, hidden, keys, values, weights = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), drawn())
    keys, values = (affine._replace(bias=affine.bias.astype(jnp.float32)) for affine in (keys, values))
    scores, mix = attend(query, hidden, keys, values)
    assert scores.dtype == jnp.float32 and mix(weights).dtype == jnp.bfloat16


def test_few_tokens_ask_without_keys_and_all_of_them_with_keys():
    bert_base = {"length": 384, "heads": 12, "hidden": 768}
    assert cheapest(asking=1, **bert_base) is without_keys
    assert cheapest(asking=31, **bert_base) is without_keys
    assert cheapest(asking=384, **bert_base) is with_keys
    for asking in (1, 31, 64, 100, 384):
        chosen = cheapest(asking=asking, **bert_base)
        assert attention_products(chosen, asking=asking, **bert_base) == min(
            attention_products(attend, asking=asking, **bert_base) for attend in (with_keys, without_keys)
        )
