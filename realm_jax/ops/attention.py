"""Attention, with keys and values of all tokens or, where few tokens ask, without them.

A score is the product of a query with a key, which is that of a kernel with a state: so the kernel may as
well be multiplied with the query. Where few tokens ask, that is cheaper than with all the tokens they ask
about, and the same holds for values.

Letters: P tokens that ask, L tokens of the row, H hidden, D = H / heads. Leading axes are batch.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from realm_jax.ops.product import add_bias, product
from realm_jax.types import Array


class Affine(NamedTuple):
    """A linear layer."""

    kernel: Array  # [H, heads, D]
    bias: Array  # float32 [heads, D]


Mix = Callable[[Array], Array]  # weights [..., heads, P, L] -> contexts [..., P, heads, D]

# query [..., P, heads, D], hidden [..., L, H], keys, values -> scores float32 [..., heads, P, L], mix
Attend = Callable[[Array, Array, Affine, Affine], tuple[Array, Mix]]


def with_keys(query: Array, hidden: Array, keys: Affine, values: Affine) -> tuple[Array, Mix]:
    """Score and mix through a key and a value of every token; an `Attend`."""
    key, value = (_apply(hidden, affine) for affine in (keys, values))
    scores = jnp.einsum("...qhd,...khd->...hqk", query, key, preferred_element_type=jnp.float32)

    def mix(weights: Array) -> Array:
        # Asked for tokens before heads, einsum multiplies the other way round, which XLA's CPU compiler does
        # so badly that all of attention takes up to three times as long.
        return jnp.swapaxes(jnp.einsum("...hqk,...khd->...hqd", weights, value), -3, -2)

    return scores, mix


def without_keys(query: Array, hidden: Array, keys: Affine, values: Affine) -> tuple[Array, Mix]:
    """Score and mix the states themselves, the kernels taken to the tokens that ask; an `Attend`."""
    asked = jnp.einsum("...qhd,ihd->...qhi", query, keys.kernel)
    scores = jnp.einsum("...qhi,...ki->...hqk", asked, hidden, preferred_element_type=jnp.float32)
    key_bias, value_bias = (affine.bias.astype(query.dtype) for affine in (keys, values))
    shift = jnp.einsum("...qhd,hd->...hq", query, key_bias, preferred_element_type=jnp.float32)

    def mix(weights: Array) -> Array:
        states = jnp.einsum("...hqk,...ki->...qhi", weights, hidden)
        # Under dropout the weights do not add up to 1.
        shift = jnp.einsum("...hq,hd->...qhd", weights.sum(axis=-1), value_bias)
        return jnp.einsum("...qhi,ihd->...qhd", states, values.kernel) + shift

    return scores + shift[..., None], mix


def cheapest(*, asking: int, length: int, heads: int, hidden: int) -> Attend:
    """Choose by the operations of `attention_products`."""
    sizes = {"asking": asking, "length": length, "heads": heads, "hidden": hidden}
    return min((with_keys, without_keys), key=lambda attend: attention_products(attend, **sizes))


def attention_products(attend: Attend, *, asking: int, length: int, heads: int, hidden: int) -> int:
    """Count the multiplications of a row's keys, scores, values and contexts.

    Args:
      attend: `with_keys` or `without_keys`.
      asking: P.
      length: L.
      heads: heads.
      hidden: H.
    """
    if attend is with_keys:
        return 2 * length * hidden * hidden + 2 * asking * length * hidden
    return 2 * asking * hidden * (hidden + heads * length + 1)  # 1: the biases, which are multiplied here


def _apply(states: Array, affine: Affine) -> Array:
    """Return `[..., L, heads, D]`."""
    flat = product(states, affine.kernel.reshape(states.shape[-1], -1))
    return add_bias(flat.reshape(*flat.shape[:-1], *affine.bias.shape), affine.bias)
