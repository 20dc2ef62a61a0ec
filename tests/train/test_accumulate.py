"""Microbatches: what they add up to, by formulas on models of a few weights."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realm_jax.train.accumulate import by_embeddings, by_sums

RNG = np.random.default_rng(0)
ROWS = RNG.standard_normal((8, 3)).astype(np.float32)
COUNTS = np.array([1, 0, 3, 1, 2, 0, 0, 5], np.float32)  # a row is worth that many tokens, some rows none
PARTS = {"encoder": jnp.asarray([0.5, -1.0, 2.0], jnp.float32)}


def run(accumulate, loss, *inputs, microbatches, key=None):
    """Take the gradient; half of the model is not trained."""
    call = partial(
        accumulate,
        loss,
        complete=lambda parts: {**parts, "embedder": jnp.float32(3.0)},
        microbatches=microbatches,
        mesh=None,
    )
    return jax.jit(lambda parts, inputs: call(parts, key, inputs))(PARTS, inputs)


def weighted(params, key, rows, counts):
    """Squares of a projection, weighted; the mean divides by the sum of the weights."""
    del key
    values = jnp.square(rows @ params["encoder"]) * params["embedder"]
    total, count = jnp.sum(values * counts), jnp.sum(counts)
    return total / jnp.maximum(count, 1.0), {"loss": (total, count), "rows": (count, jnp.float32(len(rows)))}


@pytest.mark.parametrize("microbatches", [2, 4, 8])
def test_sums_and_counts_add_up_before_they_are_divided(microbatches):
    """d/dw sum c (x.w)^2 3 / sum c = sum 6 c (x.w) x / sum c; a mean of means would weigh rows by chance."""
    gradients, metrics = run(by_sums, weighted, ROWS, COUNTS, microbatches=microbatches)
    projection = ROWS @ np.asarray(PARTS["encoder"])
    expected = (6 * COUNTS * projection) @ ROWS / COUNTS.sum()
    np.testing.assert_allclose(gradients["encoder"], expected, rtol=1e-5)
    assert gradients.keys() == PARTS.keys()
    assert [float(value) for value in metrics["rows"]] == [COUNTS.sum(), 8.0]
    np.testing.assert_allclose(metrics["loss"][0], (3 * COUNTS * projection**2).sum(), rtol=1e-5)


def test_means_of_different_counts_are_weighed_by_those_of_the_batch():
    """The loss adds 0.3 x the mean of another sum, over the rows worth more than a token."""

    def two(params, key, rows, counts):
        first, metrics = weighted(params, key, rows, counts)
        chosen = (counts > 1).astype(jnp.float32)
        total, count = jnp.sum((rows @ params["encoder"]) * chosen), jnp.sum(chosen)
        return first + 0.3 * total / jnp.maximum(count, 1.0), {**metrics, "other": (total, count)}

    gradients, metrics = run(partial(by_sums, further={"other": 0.3}), two, ROWS, COUNTS, microbatches=4)
    projection = ROWS @ np.asarray(PARTS["encoder"])
    expected = (6 * COUNTS * projection) @ ROWS / COUNTS.sum() + 0.3 * ROWS[COUNTS > 1].mean(axis=0)
    np.testing.assert_allclose(gradients["encoder"], expected, rtol=1e-5)
    assert float(metrics["other"][1]) == (COUNTS > 1).sum() == 3


def test_a_batch_with_nothing_to_learn_has_gradients_of_zero():
    gradients, _ = run(by_sums, weighted, ROWS, np.zeros(8, np.float32), microbatches=4)
    assert (np.asarray(gradients["encoder"]) == 0).all()


def test_every_microbatch_has_a_dropout_key_of_its_own():
    key = jax.random.key(7)

    def loss(params, key, rows):
        value = jax.random.uniform(key) * jnp.sum(params["encoder"]) * rows.shape[0]
        return value, {"loss": (value, jnp.float32(rows.shape[0]))}

    gradients, _ = run(by_sums, loss, ROWS, microbatches=4, key=key)
    drawn = np.array([jax.random.uniform(jax.random.fold_in(key, j)) for j in range(4)])
    assert len(set(drawn)) == 4
    np.testing.assert_allclose(gradients["encoder"], np.full(3, drawn.sum() * 2 / 8), rtol=1e-6)


def embed(params, key, rows):
    """Scale rows by the weights, and by a draw of the microbatch's key if there is one."""
    scale = jnp.float32(1) if key is None else jax.random.uniform(key)
    return rows * jnp.broadcast_to(params["encoder"], rows.shape) * scale


def contrast(embedded, rows):
    """Every row meets every other: log-sum-exp over all pairs, and the order of the rows matters."""
    scores = embedded @ rows.T
    place = jnp.arange(8, dtype=jnp.float32)
    value = jnp.mean(jax.nn.logsumexp(scores, axis=1) * place)
    return value, {"loss": (value * 8, jnp.float32(8))}


@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("microbatches", [2, 8])
def test_embeddings_meet_across_microbatches(microbatches, dropout):
    """Row i belongs to microbatch i mod n: both of its passes must draw from that key."""
    key = jax.random.key(3) if dropout else None
    accumulate = partial(by_embeddings, embed=embed, contrast=contrast)
    gradients, metrics = run(accumulate, None, ROWS, microbatches=microbatches, key=key)
    draws = [jax.random.uniform(jax.random.fold_in(jax.random.key(3), j)) for j in range(microbatches)]
    scale = np.array([draws[i % microbatches] if dropout else 1.0 for i in range(8)], np.float32)

    def whole(encoder):
        rows = ROWS * jnp.broadcast_to(encoder, ROWS.shape) * jnp.broadcast_to(scale[:, None], ROWS.shape)
        return contrast(rows, jnp.asarray(ROWS))[0]

    value, expected = jax.value_and_grad(whole)(PARTS["encoder"])
    np.testing.assert_allclose(gradients["encoder"], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(metrics["loss"][0] / metrics["loss"][1], value, rtol=1e-5)
