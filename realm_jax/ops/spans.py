"""Spans of a row: their order, and their masks.

Letters: K candidates, L tokens, S spans. Spans are ordered by width, then by start: (0,0), (1,1), ...,
(0,1), (1,2), ...; S = sum over w = 1..max_width of (L - w + 1).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from realm_jax.types import Array


def span_table(length: int, max_width: int) -> tuple[np.ndarray, np.ndarray]:
    """List the spans of a row of `length` tokens.

    Args:
      length: L, tokens.
      max_width: widest span, tokens.

    Returns:
      int32 `[S]` first tokens and int32 `[S]` last tokens (inclusive).
    """
    widths = range(1, min(max_width, length) + 1)
    starts = np.concatenate([np.arange(length - width + 1) for width in widths])
    stops = np.concatenate([np.arange(width - 1, length) for width in widths])
    return starts.astype(np.int32), stops.astype(np.int32)


def normalised_span_scores(
    starts: Array, ends: Array, *, max_width: int, weights: Array, bias: Array, epsilon: float
) -> Array:
    """Score spans by a hidden layer: ReLU(start + end), a LayerNorm, and a linear layer to one number.

    With h the hidden layer less its mean, v the mean of its squares, w the linear layer's kernel with the
    LayerNorm's scale multiplied in, the score is w.h / sqrt(v + epsilon) + bias: sums over the features of h,
    which need no array of every feature of every span. The mean is taken off first: sums of uncentred values
    lose a digit for every factor of three by which it exceeds the spread. Slices, since the gradient of a
    gather by `span_table` would be a slow scatter.

    Args:
      starts: `[..., L, F]`, features of first tokens.
      ends: `[..., L, F]`, features of last tokens.
      max_width: widest span, tokens.
      weights: float32 `[F]`, w.
      bias: float32 `[]`, of the linear layer, with the product of the LayerNorm's bias and the kernel added.
      epsilon: of the LayerNorm.

    Returns:
      float32 `[..., S]`.
    """
    length = starts.shape[-2]

    def scores(wider: int) -> Array:
        both = starts[..., : length - wider, :] + ends[..., wider:, :]
        hidden = jax.nn.relu(both.astype(jnp.float32))
        hidden = hidden - jnp.mean(hidden, axis=-1, keepdims=True)
        variance = jnp.mean(hidden * hidden, axis=-1)
        weighed = lax.platform_dependent(hidden, weights, cpu=jnp.matmul, default=weighed_sum)
        return weighed * lax.rsqrt(variance + epsilon) + bias

    return jnp.concatenate([scores(wider) for wider in range(min(max_width, length))], axis=-1)


def weighed_sum(hidden: Array, weights: Array) -> Array:
    """Multiply as `matmul` does: in one loop with the sum of squares, and in float32 on every accelerator.

    A CPU copies the weights for every row first, which makes it several times as slow as a product.
    """
    return jnp.sum(hidden * weights.reshape((1,) * (hidden.ndim - 1) + (-1,)), axis=-1)


def span_allowed(token_mask: Array, *, max_width: int, is_continuation: Array | None = None) -> Array:
    """Mark the spans whose first and last token are allowed.

    Args:
      token_mask: bool `[..., L]`.
      max_width: widest span, tokens.
      is_continuation: as in `spans_of_words`; given, spans are whole words too.

    Returns:
      bool `[..., S]`.
    """
    starts, stops = span_table(token_mask.shape[-1], max_width)
    allowed = token_mask[..., starts] & token_mask[..., stops]
    if is_continuation is None:
        return allowed
    return allowed & spans_of_words(is_continuation, max_width=max_width)


def spans_of_words(is_continuation: Array, *, max_width: int) -> Array:
    """Mark the spans that are made of whole words.

    Args:
      is_continuation: bool `[..., L]`, the token goes on with the word before it.
      max_width: widest span, tokens.

    Returns:
      bool `[..., S]`.
    """
    starts, stops = span_table(is_continuation.shape[-1], max_width)
    following = jnp.concatenate([is_continuation[..., 1:], jnp.zeros_like(is_continuation[..., :1])], axis=-1)
    return ~is_continuation[..., starts] & ~following[..., stops]


def span_matches(starts: Array, stops: Array, mask: Array, *, length: int, max_width: int) -> Array:
    """Mark the spans that equal one of the given spans.

    Args:
      starts: int32 `[..., A]`, first tokens.
      stops: int32 `[..., A]`, last tokens, inclusive.
      mask: bool `[..., A]`; False on padding.
      length: L, tokens.
      max_width: widest span, tokens.

    Returns:
      bool `[..., S]`.
    """
    table_starts, table_stops = (jnp.asarray(side) for side in span_table(length, max_width))
    leading = (1,) * (starts.ndim - 1)
    same_start = starts[..., None] == table_starts.reshape(*leading, 1, -1)
    same_stop = stops[..., None] == table_stops.reshape(*leading, 1, -1)
    return jnp.any(same_start & same_stop & mask[..., None], axis=-2)
