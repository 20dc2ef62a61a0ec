"""Lay token rows out as BERT inputs, inside the compiled step.

Letters: B batch, K candidates, L tokens.
"""

import jax.numpy as jnp

from realm_jax.types import Array, Blocks, Rows, Tokens


def single(rows: Rows) -> Tokens:
    """Read rows as they are, all tokens in segment 0.

    Args:
      rows: token rows `[..., L]`.

    Returns:
      Tokens `[..., L]`.
    """
    positions = jnp.arange(rows.ids.shape[-1], dtype=jnp.int32)
    mask = jnp.broadcast_to(positions, rows.ids.shape) < rows.length[..., None]
    return Tokens(ids=rows.ids, mask=mask, segments=jnp.zeros(mask.shape, jnp.int32))


def join(first: Rows, second: Rows, *, length: int) -> Tokens:
    """Put each second row behind its first row, segments 0 and 1.

    A pair longer than `length` loses the end of its second row except the closing token ([SEP]), as the
    released code does ("only the second is truncated").

    Args:
      first: rows `[..., L1]`; at least one token shorter than `length`.
      second: rows `[..., L2]` whose last token is [SEP]; leading axes broadcast against those of `first`.
      length: number of tokens L of the result.

    Returns:
      Tokens `[..., L]`.
    """
    joined = jnp.vectorize(
        lambda a, n, b, m: _join(a, n, b, m, length=length), signature="(i),(),(j),()->(l),(l),(l)"
    )
    ids, mask, segments = joined(first.ids, first.length, second.ids, second.length)
    return Tokens(ids=ids, mask=mask, segments=segments)


def block_tokens(blocks: Blocks, *, length: int) -> Tokens:
    """Lay blocks out for the embedder: [CLS] title [SEP] body [SEP].

    Args:
      blocks: blocks `[..., ...]`.
      length: number of tokens L of the result.

    Returns:
      Tokens `[..., L]`, the title in segment 0 and the body in segment 1.
    """
    return join(blocks.title, blocks.body, length=length)


def joint_tokens(query: Rows, body: Rows, *, length: int) -> Tokens:
    """Lay each query out with each of its candidates: [CLS] x [SEP] body [SEP].

    Args:
      query: rows `[B, L_query]`.
      body: rows `[B, K, L_body]`.
      length: number of tokens L of the result.

    Returns:
      Tokens `[B, K, L]`; a position in the query row is the same position here.
    """
    return join(Rows(ids=query.ids[:, None], length=query.length[:, None]), body, length=length)


def _join(first: Array, n: Array, second: Array, m: Array, *, length: int) -> tuple[Array, Array, Array]:
    """Join one pair (unbatched): `[i], [], [j], [] -> [l], [l], [l]`."""
    position = jnp.arange(length, dtype=jnp.int32)
    stop = jnp.minimum(n + m, length)
    in_first = position < n
    from_first = first[jnp.clip(position, 0, first.shape[0] - 1)]
    from_second = second[jnp.clip(position - n, 0, second.shape[0] - 1)]
    ids = jnp.where(in_first, from_first, from_second)
    ids = jnp.where(position == stop - 1, second[m - 1], ids)
    mask = position < stop
    return jnp.where(mask, ids, 0), mask, (mask & ~in_first).astype(jnp.int32)
