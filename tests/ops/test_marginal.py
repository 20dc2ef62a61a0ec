"""Marginal likelihoods by their formulas, in exponentials and sums of Python."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from realm_jax.ops.marginal import (
    MARGINALS,
    block_utility,
    null_log_prob,
    retrieval_utility,
    sequence_loss,
    sequence_marginal,
    token_loss,
    token_marginal,
)
from realm_jax.ops.relevance import retrieval_log_prob

B, K, M = 3, 4, 2


def case(seed=0):
    """Draw log p(z|x), log p(y_j|z,x) and weights; the last text has one masked token only."""
    rng = np.random.default_rng(seed)
    prior = jax.nn.log_softmax(jnp.asarray(rng.standard_normal((B, K)), jnp.float32))
    gold = -jnp.asarray(rng.exponential(2.0, (B, K, M)), jnp.float32)
    return prior, gold, jnp.asarray([[1, 1], [1, 1], [1, 0]], jnp.float32)


def as_float(*arrays):
    return (np.asarray(a, np.float64).tolist() for a in arrays)


def test_token_marginal_is_a_mixture_for_each_token():
    prior, gold, _ = case()
    p, g = as_float(prior, gold)
    expected = [
        [math.log(sum(math.exp(p[b][k]) * math.exp(g[b][k][m]) for k in range(K))) for m in range(M)]
        for b in range(B)
    ]
    np.testing.assert_allclose(token_marginal(prior, gold), expected, rtol=1e-5)


def test_sequence_marginal_is_a_mixture_of_products():
    prior, gold, weights = case()
    p, g, w = as_float(prior, gold, weights)
    expected = [
        math.log(
            sum(
                math.exp(p[b][k]) * math.prod(math.exp(g[b][k][m]) for m in range(M) if w[b][m])
                for k in range(K)
            )
        )
        for b in range(B)
    ]
    np.testing.assert_allclose(sequence_marginal(prior, gold, weights), expected, rtol=1e-5)


def test_losses_are_sums_and_counts():
    prior, gold, weights = case()
    token, tokens = token_loss(prior, gold, weights)
    np.testing.assert_allclose(token, -np.sum(np.asarray(token_marginal(prior, gold)) * weights), rtol=1e-5)
    sequence, texts = sequence_loss(prior, gold, weights)
    np.testing.assert_allclose(sequence, -np.sum(sequence_marginal(prior, gold, weights)), rtol=1e-5)
    assert (tokens.item(), texts.item()) == (5.0, 3.0)


def test_both_reduce_to_the_same_where_one_token_is_masked():
    prior, gold, _ = case()
    weights = jnp.ones((B, 1), jnp.float32)
    token, sequence = (loss(prior, gold[:, :, :1], weights) for loss in (token_loss, sequence_loss))
    np.testing.assert_allclose(token, sequence, rtol=1e-6)


def test_one_candidate_is_plain_masked_language_modelling():
    _, gold, weights = case()
    only = jnp.zeros((B, 1), jnp.float32)
    for loss in MARGINALS.values():
        found = loss(only, gold[:, :1], weights)[0]
        np.testing.assert_allclose(found, -np.sum(np.asarray(gold[:, 0]) * weights), rtol=1e-6)


@pytest.mark.parametrize("name", MARGINALS)
def test_masked_equals_subset(name):
    """An invalid candidate, a padded position and a text without targets change neither loss nor gradient."""
    prior_scores, gold = case()[0], case()[1]
    valid = jnp.asarray([[1, 0, 1, 1], [1, 1, 1, 0], [0, 0, 0, 1]], bool)
    weights = jnp.asarray([[1, 1], [1, 0], [0, 0]], jnp.float32)

    def loss(scores, gold, valid, weights):
        return MARGINALS[name](retrieval_log_prob(scores, valid), gold, weights)[0]

    value, (of_scores, of_gold) = jax.value_and_grad(loss, argnums=(0, 1))(prior_scores, gold, valid, weights)

    def part(row, candidates, positions):
        """Compute the loss of one text with what is kept alone."""
        kept = gold[row][np.array(candidates)][:, np.array(positions)]
        scores = prior_scores[row][np.array(candidates)]
        ones = jnp.ones((1, len(positions)), jnp.float32)
        return loss(scores[None], kept[None], jnp.ones((1, len(candidates)), bool), ones)

    parts = [part(0, [0, 2, 3], [0, 1]), part(1, [0, 1, 2], [0])]
    np.testing.assert_allclose(value, sum(parts), rtol=1e-5)
    assert np.isfinite(of_scores).all() and np.isfinite(of_gold).all()
    assert (np.asarray(of_scores)[~np.asarray(valid)] == 0).all()
    assert (np.asarray(of_gold)[~np.asarray(valid)] == 0).all()
    assert (np.asarray(of_gold)[2] == 0).all() and (np.asarray(of_gold)[1, :, 1] == 0).all()


@pytest.mark.parametrize("name", MARGINALS)
def test_batches_are_made_of_rows(name):
    prior, gold, weights = case()
    total, count = MARGINALS[name](prior, gold, weights)
    rows = [MARGINALS[name](prior[b : b + 1], gold[b : b + 1], weights[b : b + 1]) for b in range(B)]
    np.testing.assert_allclose(total, sum(row[0] for row in rows), rtol=1e-5)
    assert count == sum(row[1] for row in rows)


@pytest.mark.parametrize("name", MARGINALS)
def test_compiled_equals_plain_and_gradients_are_right(name):
    prior, gold, weights = case()
    plain, compiled = (f(prior, gold, weights)[0] for f in (MARGINALS[name], jax.jit(MARGINALS[name])))
    np.testing.assert_allclose(plain, compiled, rtol=1e-6)
    check_grads(
        lambda p, g: MARGINALS[name](p, g, weights)[0], (prior, gold), order=1, modes=["rev"], rtol=1e-2
    )


@pytest.mark.parametrize("name", MARGINALS)
def test_very_unlikely_targets_give_finite_losses_and_gradients(name):
    prior, gold, weights = case()
    value, gradient = jax.value_and_grad(lambda g: MARGINALS[name](prior, g, weights)[0])(gold * 1e6)
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_a_block_gains_score_where_it_beats_the_mixture():
    """REALM, section 3.3: d log p(y|x) / d f(x,z) = p(z|x) (p(y|z,x) / p(y|x) - 1)."""
    scores = jnp.asarray([[0.3, -0.2, 1.0, 0.1]], jnp.float32)
    gold = jnp.asarray([[[-0.1], [-3.0], [-1.0], [-6.0]]], jnp.float32)
    valid = jnp.ones((1, 4), bool)
    found = jax.grad(lambda s: token_marginal(retrieval_log_prob(s, valid), gold)[0, 0])(scores)
    prior = np.exp(np.asarray(retrieval_log_prob(scores, valid)))[0]
    likelihood = np.exp(np.asarray(gold))[0, :, 0]
    expected = prior * (likelihood / (prior * likelihood).sum() - 1)
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-6)


def test_utilities_compare_with_the_null_block_wherever_it_stands():
    prior, gold, _ = case()
    for place in range(K):
        is_null = jnp.broadcast_to(jnp.arange(K) == place, (B, K))
        np.testing.assert_array_equal(null_log_prob(gold, is_null), gold[:, place])
        of_blocks = np.asarray(block_utility(gold, is_null))
        np.testing.assert_allclose(of_blocks, np.asarray(gold) - np.asarray(gold)[:, place : place + 1])
        assert (of_blocks[:, place] == 0).all()
        of_mixture = retrieval_utility(token_marginal(prior, gold), null_log_prob(gold, is_null))
        np.testing.assert_allclose(of_mixture, token_marginal(prior, gold) - gold[:, place], rtol=1e-6)


def test_a_retriever_sure_of_the_null_block_has_no_utility():
    _, gold, _ = case()
    sure = jnp.broadcast_to(jnp.asarray([0.0, -jnp.inf, -jnp.inf, -jnp.inf], jnp.float32), (B, K))
    is_null = jnp.broadcast_to(jnp.arange(K) == 0, (B, K))
    utility = retrieval_utility(token_marginal(sure, gold), null_log_prob(gold, is_null))
    np.testing.assert_allclose(utility, 0.0, atol=1e-6)
