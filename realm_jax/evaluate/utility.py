"""What retrieval is worth for masked words, and how often they are filled in right.

Letters: B batch, K candidates, M masked positions, V vocabulary.
"""

import jax
import jax.numpy as jnp
from flax import struct

from realm_jax.models.knowledge_encoder import gold_log_prob
from realm_jax.ops.marginal import block_utility, null_log_prob, retrieval_utility, token_marginal
from realm_jax.types import Array


@struct.dataclass
class FillStatistics:
    """How well the masked tokens of texts are predicted, one row a text."""

    tokens: Array  # float32 [B]; number of masked tokens
    log_likelihood: Array  # float32 [B], nats; summed over the tokens, marginal over the candidates
    null_log_likelihood: Array  # float32 [B], nats; with the null block alone
    utility: Array  # float32 [B], nats; summed over the tokens
    best_utility: Array  # float32 [B], nats; of the best single block, summed over the tokens
    right: Array  # bool [B]; every token, marginal over the candidates
    null_right: Array  # bool [B]; every token, with the null block alone


def marginal_word_log_prob(retrieval_log_prob: Array, word_logits: Array) -> Array:
    """Marginalise the distribution over words: log sum_z p(z|x) p(w|z,x).

    Args:
      retrieval_log_prob: float32 `[B, K]`.
      word_logits: float32 `[B, K, M, V]`.

    Returns:
      float32 `[B, M, V]`.
    """
    word = jax.nn.log_softmax(word_logits, axis=-1)
    return jax.nn.logsumexp(retrieval_log_prob[:, :, None, None] + word, axis=1)


def fill_statistics(
    retrieval_log_prob: Array,
    word_logits: Array,
    target_ids: Array,
    target_weights: Array,
    *,
    is_null: Array,
    is_valid: Array,
) -> FillStatistics:
    """Compare the marginal over the candidates with the null block alone.

    Each masked token is filled in greedily and by itself, from the words around it that were left.

    Args:
      retrieval_log_prob: float32 `[B, K]`.
      word_logits: float32 `[B, K, M, V]`.
      target_ids: int32 `[B, M]`.
      target_weights: float32 `[B, M]`; 0 on padding.
      is_null: bool `[B, K]`; exactly one True a row.
      is_valid: bool `[B, K]`.

    Source: REALM, section 4.4 (retrieval utility).
    """
    gold = gold_log_prob(word_logits, target_ids)
    marginal, null = token_marginal(retrieval_log_prob, gold), null_log_prob(gold, is_null)
    null_logits = jnp.sum(jnp.where(is_null[:, :, None, None], word_logits, 0.0), axis=1)
    by_block = jnp.sum(block_utility(gold, is_null) * target_weights[:, None, :], axis=-1)

    def total(values: Array) -> Array:
        return jnp.sum(values * target_weights, axis=-1)

    def all_right(scores: Array) -> Array:
        return jnp.all((jnp.argmax(scores, axis=-1) == target_ids) | (target_weights == 0), axis=-1)

    return FillStatistics(
        tokens=jnp.sum(target_weights, axis=-1),
        log_likelihood=total(marginal),
        null_log_likelihood=total(null),
        utility=total(retrieval_utility(marginal, null)),
        best_utility=jnp.max(jnp.where(is_valid, by_block, -jnp.inf), axis=-1),
        right=all_right(marginal_word_log_prob(retrieval_log_prob, word_logits)),
        null_right=all_right(null_logits),
    )
