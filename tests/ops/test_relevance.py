"""Relevance scores and p(z|x), by their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from realm_jax.ops.relevance import relevance_score, retrieval_log_prob, uniform_log_prob

SCORES = arrays(np.float32, (3, 5), elements=st.floats(-50, 50, width=32))
VALID = arrays(np.bool_, (3, 5)).map(lambda mask: np.where(mask.any(axis=1, keepdims=True), mask, True))


def softmax(scores):
    weights = np.exp(scores.astype(np.float64) - scores.max())
    return weights / weights.sum()


def test_scores_are_inner_products_of_each_query_with_its_own_blocks():
    rng = np.random.default_rng(0)
    queries, blocks = rng.standard_normal((2, 3)), rng.standard_normal((2, 4, 3))
    found = relevance_score(jnp.asarray(queries, jnp.float32), jnp.asarray(blocks, jnp.float32))
    expected = [[sum(queries[b, d] * blocks[b, k, d] for d in range(3)) for k in range(4)] for b in range(2)]
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_low_precision_embeddings_are_summed_in_float32():
    """256 products of 1 and one of 2^-7: bfloat16 would lose the small one in the sum."""
    queries = jnp.ones((1, 257), jnp.bfloat16)
    blocks = jnp.ones((1, 1, 257), jnp.bfloat16).at[0, 0, 0].set(2.0**-7)
    found = relevance_score(queries, blocks)
    assert found.dtype == jnp.float32 and found.item() == 256 + 2.0**-7


@settings(deadline=None, max_examples=50)
@given(SCORES, VALID)
def test_probabilities_are_the_softmax_of_the_valid_candidates_alone(scores, valid):
    found = np.asarray(retrieval_log_prob(jnp.asarray(scores), jnp.asarray(valid)))
    for row, mask, log_prob in zip(scores, valid, found, strict=True):
        np.testing.assert_allclose(np.exp(log_prob[mask]), softmax(row[mask]), atol=1e-5)
        assert np.isneginf(log_prob[~mask]).all()


@settings(deadline=None, max_examples=50)
@given(SCORES, VALID, st.sampled_from([np.nan, np.inf, -np.inf, 3e38, 0.0]))
def test_what_stands_at_invalid_candidates_does_not_matter(scores, valid, junk):
    dirty = np.where(valid, scores, np.float32(junk))
    expected = retrieval_log_prob(jnp.asarray(scores), jnp.asarray(valid))
    np.testing.assert_array_equal(retrieval_log_prob(jnp.asarray(dirty), jnp.asarray(valid)), expected)


@settings(deadline=None, max_examples=50)
@given(SCORES, VALID)
def test_gradients_are_those_of_the_valid_candidates_alone(scores, valid):
    """d/ds log softmax(s)_1 = onehot_1 - softmax(s); zero where invalid."""

    def first_valid(scores, valid):
        log_prob = retrieval_log_prob(scores, valid)
        return jnp.sum(jnp.take_along_axis(log_prob, jnp.argmax(valid, axis=1)[:, None], axis=1))

    found = np.asarray(jax.grad(first_valid)(jnp.asarray(scores), jnp.asarray(valid)))
    for row, mask, gradient in zip(scores, valid, found, strict=True):
        np.testing.assert_allclose(gradient[mask], np.eye(mask.sum())[0] - softmax(row[mask]), atol=1e-5)
        assert (gradient[~mask] == 0).all()


@pytest.mark.parametrize("shift", [-1e4, 1e4])
def test_only_differences_of_scores_matter(shift):
    scores = jnp.asarray([[0.5, -1.25, 2.0]], jnp.float32)
    valid = jnp.ones((1, 3), bool)
    np.testing.assert_allclose(
        retrieval_log_prob(scores + shift, valid), retrieval_log_prob(scores, valid), atol=1e-3
    )


@settings(deadline=None, max_examples=30)
@given(SCORES, VALID)
def test_uniform_weights_ignore_scores(scores, valid):
    found = np.asarray(uniform_log_prob(jnp.asarray(scores), jnp.asarray(valid)))
    expected = np.where(valid, -np.log(valid.sum(axis=1, keepdims=True)), -np.inf)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    gradient = jax.grad(lambda s: jnp.sum(jnp.where(valid, uniform_log_prob(s, valid), 0.0)))(
        jnp.asarray(scores)
    )
    assert (np.asarray(gradient) == 0).all()
