"""Relevance scores and the retrieval distribution over candidates.

Letters: B batch, K candidates, D embedding.
"""

import chex
import jax
import jax.numpy as jnp

from realm_jax.types import Array


def relevance_score(query_embeddings: Array, block_embeddings: Array) -> Array:
    """Score each query against its own candidates: f(x, z) = Embed_input(x) . Embed_doc(z).

    Args:
      query_embeddings: `[B, D]`.
      block_embeddings: `[B, K, D]`.

    Returns:
      float32 `[B, K]`.

    Source: REALM, section 3.2.
    """
    chex.assert_rank([query_embeddings, block_embeddings], [2, 3])
    return jnp.einsum("bd,bkd->bk", query_embeddings, block_embeddings, preferred_element_type=jnp.float32)


def retrieval_log_prob(scores: Array, is_valid: Array) -> Array:
    """Normalise relevance scores over the valid candidates: log p(z given x).

    Args:
      scores: float32 `[B, K]`.
      is_valid: bool `[B, K]`; at least one True a row.

    Returns:
      float32 `[B, K]`; -inf where a candidate is not valid.

    Source: REALM, section 3.2; trivial retrievals and duplicates have probability 0 (section 3.4).
    """
    chex.assert_equal_shape([scores, is_valid])
    return jax.nn.log_softmax(scores, axis=-1, where=is_valid)


def uniform_log_prob(scores: Array, is_valid: Array) -> Array:
    """Give every valid candidate the same probability, whatever its score (reading warm-up).

    Args:
      scores: float32 `[B, K]`; only its shape is used.
      is_valid: bool `[B, K]`; at least one True a row.

    Returns:
      float32 `[B, K]`; -inf where a candidate is not valid.
    """
    return retrieval_log_prob(jnp.zeros_like(scores), is_valid)
