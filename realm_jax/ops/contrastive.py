"""The in-batch loss of the inverse cloze task.

Letters: B batch, D embedding.
"""

import chex
import jax
import jax.numpy as jnp

from realm_jax.types import Array


def in_batch_log_prob(query_embeddings: Array, block_embeddings: Array, block_ids: Array) -> Array:
    """Classify each pseudo-query among the blocks of the batch.

    Args:
      query_embeddings: `[B, D]`.
      block_embeddings: `[B, D]`; row b belongs to query b.
      block_ids: int32 `[B]`; another row with the same id is left out of the softmax, being no negative.

    Returns:
      float32 `[B, B]` log probabilities; the diagonal holds the positives, -inf what was left out.

    Source: ORQA, equation 4 (inverse cloze task with in-batch negatives).
    """
    chex.assert_equal_shape([query_embeddings, block_embeddings])
    scores = jnp.einsum("bd,cd->bc", query_embeddings, block_embeddings, preferred_element_type=jnp.float32)
    same = block_ids[:, None] == block_ids[None, :]
    allowed = ~same | jnp.eye(block_ids.shape[0], dtype=bool)
    return jax.nn.log_softmax(scores, axis=-1, where=allowed)
