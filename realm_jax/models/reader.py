"""The span reader: scores every span of a candidate as the answer.

Letters: K candidates, L tokens, H hidden, S spans (see ops/spans.py for their order).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from realm_jax.models.bert import Bert, dense, layer_norm
from realm_jax.ops.spans import span_sums
from realm_jax.types import Array, Tokens

SPAN_SCORER = ("start", "end", "span_norm", "score")  # the modules behind the BERT


class Reader(nn.Module):
    """Score spans: MLP([h_start; h_end]), one hidden layer.

    Attributes:
      bert: the encoder.
      span_hidden_size: width of the hidden layer.
      max_span_width: widest span scored, tokens.
      span_norm_eps: epsilon of the span LayerNorm.

    Source: REALM, section 3.2 (fine-tuning); ORQA's reader for the sizes and the LayerNorm.
    """

    bert: Bert
    span_hidden_size: int = 256
    max_span_width: int = 10
    span_norm_eps: float = 1e-3

    def setup(self) -> None:
        self.start = dense(self.span_hidden_size, self.bert.dtype)
        # Both halves have a bias, as in the published checkpoints; only their sum matters.
        self.end = dense(self.span_hidden_size, self.bert.dtype)
        self.span_norm = layer_norm(self.span_norm_eps, jnp.float32)
        self.score = dense(1, jnp.float32)

    def __call__(self, joint: Tokens, *, deterministic: bool = True) -> Array:
        """Return span scores, float32 `[..., S]`, of tokens `[..., L]`; spans are not masked here."""
        return self.score_spans(self.bert(joint, deterministic=deterministic))

    def score_spans(self, hidden: Array) -> Array:
        """Return span scores, float32 `[..., S]`, of hidden states `[..., L, H]`."""
        both = span_sums(self.start(hidden), self.end(hidden), max_width=self.max_span_width)
        features = self.span_norm(jax.nn.relu(both.astype(jnp.float32)))
        return self.score(features)[..., 0]
