"""The knowledge-augmented encoder: reads query and block together, predicts the masked tokens.

Letters: B batch, K candidates, L tokens, M masked positions, H hidden, V vocabulary.
"""

from functools import partial

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from realm_jax.models.bert import ACTIVATIONS, Bert, dense, layer_norm
from realm_jax.types import Array, Tokens


class KnowledgeEncoder(nn.Module):
    """Predict masked tokens from (x, z): BERT with its masked-LM head, the decoder tied to the words.

    Attributes:
      bert: the encoder.

    Source: REALM, section 3.2 (knowledge-augmented encoder, pre-training).
    """

    bert: Bert

    def setup(self) -> None:
        self.transform = dense(self.bert.hidden_size, self.bert.dtype)
        self.transform_norm = layer_norm(self.bert.layer_norm_eps, self.bert.dtype)
        self.word_bias = self.param("word_bias", nn.initializers.zeros_init(), (self.bert.vocab_size,))

    def __call__(self, joint: Tokens, positions: Array, *, deterministic: bool = True) -> Array:
        """Return word logits, float32 `[B, K, M, V]`.

        Args:
          joint: `[B, K, L]`.
          positions: int32 `[B, M]`, the masked positions, the same in every candidate.
          deterministic: False turns dropout on.
        """
        return self.word_logits(self.read(joint, positions, deterministic=deterministic))

    def read(self, joint: Tokens, positions: Array | None = None, *, deterministic: bool = True) -> Array:
        """Return hidden states of tokens `[B, K, L]`.

        Args:
          joint: `[B, K, L]`; without positions any leading axes.
          positions: int32 `[B, M]`, the only ones that are wanted; None: all.
          deterministic: False turns dropout on.

        Returns:
          `[B, K, M, H]`, or `[..., L, H]`.
        """
        pick = None if positions is None else partial(gather_positions, positions=positions)
        return self.bert(joint, deterministic=deterministic, pick=pick)

    def word_logits(self, hidden: Array) -> Array:
        """Map hidden states `[..., H]` to word logits, float32 `[..., V]`."""
        hidden = self.transform_norm(ACTIVATIONS[self.bert.activation](self.transform(hidden)))
        logits = self.bert.attend(hidden)
        return logits + jnp.broadcast_to(self.word_bias, logits.shape)


def gather_positions(hidden: Array, positions: Array) -> Array:
    """Pick hidden states at the masked positions.

    Args:
      hidden: `[B, K, L, H]`.
      positions: int32 `[B, M]`.

    Returns:
      `[B, K, M, H]`.
    """
    chex.assert_rank([hidden, positions], [4, 2])
    return jax.vmap(lambda states, where: states[:, where])(hidden, positions)


def gold_log_prob(word_logits: Array, target_ids: Array) -> Array:
    """Pick log p(y_j|z,x) of the masked tokens.

    Args:
      word_logits: float32 `[B, K, M, V]`.
      target_ids: int32 `[B, M]`.

    Returns:
      float32 `[B, K, M]`.
    """
    chex.assert_rank([word_logits, target_ids], [4, 2])
    gold = jax.vmap(lambda logits, ids: jnp.take_along_axis(logits, ids[None, :, None], axis=-1)[..., 0])(
        word_logits, target_ids
    )
    return gold - jax.nn.logsumexp(word_logits, axis=-1)
