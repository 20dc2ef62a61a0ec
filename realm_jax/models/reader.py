"""The span reader: scores every span of a candidate as the answer.

Letters: K candidates, L tokens, H hidden, S spans (see ops/spans.py for their order).
"""

import flax.linen as nn
import jax.numpy as jnp

from realm_jax.models.bert import BERT_INIT, Bert, dense
from realm_jax.ops.spans import normalised_span_scores
from realm_jax.types import Array, Tokens

SPAN_SCORER = ("start", "end", "span_norm", "score")  # the modules behind the BERT


class NormWeights(nn.Module):
    """The parameters of a LayerNorm over `features`."""

    features: int

    @nn.compact
    def __call__(self) -> tuple[Array, Array]:
        """Return scale and bias, float32 `[features]`."""
        scale = self.param("scale", nn.initializers.ones, (self.features,), jnp.float32)
        return scale, self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)


class ScoreWeights(nn.Module):
    """The parameters of a linear layer from `features` to one score."""

    features: int

    @nn.compact
    def __call__(self) -> tuple[Array, Array]:
        """Return kernel float32 `[features, 1]` and bias float32 `[1]`."""
        kernel = self.param("kernel", BERT_INIT, (self.features, 1), jnp.float32)
        return kernel, self.param("bias", nn.initializers.zeros, (1,), jnp.float32)


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
        self.span_norm = NormWeights(self.span_hidden_size)
        self.score = ScoreWeights(self.span_hidden_size)

    def __call__(self, joint: Tokens, *, deterministic: bool = True) -> Array:
        """Return span scores, float32 `[..., S]`, of tokens `[..., L]`; spans are not masked here."""
        return self.score_spans(self.states(joint, deterministic=deterministic))

    def states(self, joint: Tokens, *, deterministic: bool = True) -> Array:
        """Return hidden states `[..., L, H]` of tokens `[..., L]`."""
        return self.bert(joint, deterministic=deterministic)

    def score_spans(self, hidden: Array) -> Array:
        """Return span scores, float32 `[..., S]`, of hidden states `[..., L, H]`."""
        scale, shift = self.span_norm()
        kernel, bias = self.score()
        return normalised_span_scores(
            self.start(hidden),
            self.end(hidden),
            max_width=self.max_span_width,
            weights=scale * kernel[:, 0],
            bias=jnp.sum(shift * kernel[:, 0]) + bias[0],
            epsilon=self.span_norm_eps,
        )
