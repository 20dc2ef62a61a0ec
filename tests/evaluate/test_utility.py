"""Fill statistics against a NumPy version, and their invariances."""

import jax
import numpy as np
import pytest

from realm_jax.evaluate.utility import fill_statistics, marginal_word_log_prob

B, K, M, V = 3, 4, 2, 7


@pytest.fixture
def case() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    is_valid = np.ones((B, K), bool)
    is_valid[1, 3] = False
    prior = np.where(is_valid, rng.random((B, K)), 0)
    with np.errstate(divide="ignore"):
        log_prior = np.log(prior / prior.sum(1, keepdims=True)).astype(np.float32)
    is_null = np.zeros((B, K), bool)
    is_null[:, 0] = True
    weights = np.array([[1, 1], [1, 0], [1, 1]], np.float32)
    return {
        "retrieval_log_prob": log_prior,
        "word_logits": rng.normal(size=(B, K, M, V)).astype(np.float32) * 3,
        "target_ids": rng.integers(V, size=(B, M)).astype(np.int32),
        "target_weights": weights,
        "is_null": is_null,
        "is_valid": is_valid,
    }


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_marginal_words_are_a_mixture(case):
    words = softmax(case["word_logits"].astype(np.float64))
    expected = np.einsum("bk,bkmv->bmv", np.exp(case["retrieval_log_prob"]), words)
    found = marginal_word_log_prob(case["retrieval_log_prob"], case["word_logits"])
    np.testing.assert_allclose(np.exp(found), expected, rtol=1e-5)
    np.testing.assert_allclose(np.exp(found).sum(-1), 1, rtol=1e-5)


def test_statistics_equal_a_loop_over_texts_and_tokens(case):
    found = fill_statistics(**case)
    words = softmax(case["word_logits"].astype(np.float64))
    prior = np.exp(case["retrieval_log_prob"].astype(np.float64))
    for b in range(B):
        marginal = null = 0.0
        by_block = np.zeros(K)
        right = null_right = True
        for m in range(M):
            if not case["target_weights"][b, m]:
                continue
            y = case["target_ids"][b, m]
            mixture = prior[b] @ words[b, :, m]
            marginal += np.log(mixture[y])
            null += np.log(words[b, 0, m, y])
            by_block += np.log(words[b, :, m, y]) - np.log(words[b, 0, m, y])
            right &= mixture.argmax() == y
            null_right &= words[b, 0, m].argmax() == y
        best = by_block[case["is_valid"][b]].max()
        expected = (case["target_weights"][b].sum(), marginal, null, marginal - null, best, right, null_right)
        row = [np.asarray(leaf)[b] for leaf in jax.tree.leaves(found)]
        np.testing.assert_allclose(np.array(row, np.float64), np.array(expected, np.float64), atol=1e-4)


def test_with_the_null_block_alone_retrieval_is_worth_nothing(case):
    alone = case["is_null"]
    with np.errstate(divide="ignore"):
        prior = np.log(alone.astype(np.float32))
    found = fill_statistics(**(case | {"retrieval_log_prob": prior, "is_valid": alone}))
    np.testing.assert_allclose(found.utility, 0, atol=1e-5)
    np.testing.assert_allclose(found.best_utility, 0, atol=1e-5)
    np.testing.assert_array_equal(found.right, found.null_right)


def test_padded_targets_change_nothing(case):
    other = case["target_ids"].copy()
    other[1, 1] = (other[1, 1] + 1) % V  # its weight is 0
    one, two = fill_statistics(**case), fill_statistics(**(case | {"target_ids": other}))
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(left, right)
