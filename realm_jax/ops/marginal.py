"""Marginal likelihoods over the candidates, and what retrieval was worth.

Letters: B batch, K candidates, M masked positions. All values are natural logarithms (nats).
A candidate with retrieval log probability -inf takes no part, and its gradient is zero.
"""

import chex
import jax
import jax.numpy as jnp

from realm_jax.types import Array


def token_marginal(retrieval_log_prob: Array, gold_log_prob: Array) -> Array:
    """Marginalise each masked token by itself: log sum_z p(z|x) p(y_j|z,x).

    Args:
      retrieval_log_prob: float32 `[B, K]`.
      gold_log_prob: float32 `[B, K, M]`, log p(y_j|z,x).

    Returns:
      float32 `[B, M]`.

    Source: the released code of REALM; the oracles' encoder loss.
    """
    chex.assert_rank([retrieval_log_prob, gold_log_prob], [2, 3])
    return jax.nn.logsumexp(retrieval_log_prob[:, :, None] + gold_log_prob, axis=1)


def sequence_marginal(retrieval_log_prob: Array, gold_log_prob: Array, target_weights: Array) -> Array:
    """Marginalise all masked tokens of a text together: log sum_z p(z|x) prod_j p(y_j|z,x).

    Args:
      retrieval_log_prob: float32 `[B, K]`.
      gold_log_prob: float32 `[B, K, M]`, log p(y_j|z,x).
      target_weights: float32 `[B, M]`; 0 leaves a position out of the product.

    Returns:
      float32 `[B]`.

    Source: REALM, equations 1 and 2.
    """
    chex.assert_rank([retrieval_log_prob, gold_log_prob, target_weights], [2, 3, 2])
    product = jnp.sum(gold_log_prob * target_weights[:, None, :], axis=-1)
    return jax.nn.logsumexp(retrieval_log_prob + product, axis=1)


def token_loss(retrieval_log_prob: Array, gold_log_prob: Array, target_weights: Array) -> tuple[Array, Array]:
    """Sum the negative token marginals, as sum and count.

    Args:
      retrieval_log_prob: float32 `[B, K]`.
      gold_log_prob: float32 `[B, K, M]`.
      target_weights: float32 `[B, M]`.

    Returns:
      float32 `[]` sum in nats, float32 `[]` number of masked tokens; the loss is their quotient.
    """
    marginal = token_marginal(retrieval_log_prob, gold_log_prob)
    return -jnp.sum(marginal * target_weights), jnp.sum(target_weights)


def sequence_loss(
    retrieval_log_prob: Array, gold_log_prob: Array, target_weights: Array
) -> tuple[Array, Array]:
    """Sum the negative sequence marginals, as sum and count of texts with a masked token.

    Args:
      retrieval_log_prob: float32 `[B, K]`.
      gold_log_prob: float32 `[B, K, M]`.
      target_weights: float32 `[B, M]`.

    Returns:
      float32 `[]` sum in nats, float32 `[]` number of texts.
    """
    has_target = jnp.any(target_weights > 0, axis=-1).astype(jnp.float32)
    marginal = sequence_marginal(retrieval_log_prob, gold_log_prob, target_weights)
    return -jnp.sum(marginal * has_target), jnp.sum(has_target)


MARGINALS = {"token": token_loss, "sequence": sequence_loss}


def retrieval_utility(marginal_log_prob: Array, null_log_prob: Array) -> Array:
    """Compare the marginal with reading no block: log p(y_j|x) - log p(y_j|null,x).

    Args:
      marginal_log_prob: float32 `[B, M]`.
      null_log_prob: float32 `[B, M]`, log p(y_j|null,x).

    Returns:
      float32 `[B, M]`, nats.

    Source: REALM, section 4.4 (RU), for the mixture instead of one document.
    """
    return marginal_log_prob - null_log_prob


def block_utility(gold_log_prob: Array, is_null: Array) -> Array:
    """Compare each candidate with reading no block: log p(y_j|z,x) - log p(y_j|null,x).

    Args:
      gold_log_prob: float32 `[B, K, M]`.
      is_null: bool `[B, K]`; exactly one True a row.

    Returns:
      float32 `[B, K, M]`, nats; 0 for the null block itself.

    Source: REALM, section 4.4 (RU).
    """
    return gold_log_prob - null_log_prob(gold_log_prob, is_null)[:, None, :]


def null_log_prob(gold_log_prob: Array, is_null: Array) -> Array:
    """Pick the null block's share of `gold_log_prob`.

    Args:
      gold_log_prob: float32 `[B, K, M]`.
      is_null: bool `[B, K]`; exactly one True a row.

    Returns:
      float32 `[B, M]`.
    """
    chex.assert_rank([gold_log_prob, is_null], [3, 2])
    return jnp.sum(jnp.where(is_null[:, :, None], gold_log_prob, 0.0), axis=1)
