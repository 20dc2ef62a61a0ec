"""Spans of a row: their order, and their masks.

Letters: K candidates, L tokens, S spans. Spans are ordered by width, then by start: (0,0), (1,1), ...,
(0,1), (1,2), ...; S = sum over w = 1..max_width of (L - w + 1).
"""

import jax.numpy as jnp
import numpy as np

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


def span_sums(starts: Array, ends: Array, *, max_width: int) -> Array:
    """Add, for each span, what stands at its first and at its last token.

    Slices, since the gradient of a gather by `span_table` would be a slow scatter.

    Args:
      starts: `[..., L, F]`, features of first tokens.
      ends: `[..., L, F]`, features of last tokens.
      max_width: widest span, tokens.

    Returns:
      `[..., S, F]`.
    """
    length = starts.shape[-2]
    sums = [
        starts[..., : length - wider, :] + ends[..., wider:, :] for wider in range(min(max_width, length))
    ]
    return jnp.concatenate(sums, axis=-2)


def span_allowed(token_mask: Array, *, max_width: int) -> Array:
    """Mark the spans whose first and last token are allowed.

    Args:
      token_mask: bool `[..., L]`.
      max_width: widest span, tokens.

    Returns:
      bool `[..., S]`.
    """
    starts, stops = span_table(token_mask.shape[-1], max_width)
    return token_mask[..., starts] & token_mask[..., stops]


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
