"""Dropout that makes four decisions of each random word.

With a word for every decision, as `flax.linen.Dropout` takes them, random bits are a tenth of a pre-training
step on a CPU; with a byte they are hardly felt. So rates are whole 256ths. What is kept is scaled by the rate
in use, so that no mean is shifted.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from realm_jax.types import Array

DECISIONS = 256  # values of a byte
PER_WORD = 4  # bytes


class Dropout(nn.Module):
    """Drop values at random, and scale up the others.

    Attributes:
      rate: share that is dropped, 0 to 1; rounded to 256ths, but never from above 0 to 0.
    """

    rate: float

    @nn.compact
    def __call__(self, x: Array, *, deterministic: bool) -> Array:
        """Return `x` with zeros in it, `[...]`; as it is where `deterministic`."""
        dropped = dropped_of(self.rate)
        if deterministic or dropped == 0:
            return x
        kept = random_bytes(self.make_rng("dropout"), x.shape) >= jnp.uint8(dropped)
        scale = jnp.asarray(DECISIONS / (DECISIONS - dropped), x.dtype)
        return jnp.where(kept, x * scale, jnp.zeros((), x.dtype))


def dropped_of(rate: float) -> int:
    """Return how many values of a byte, of 256, mean to drop; at least one stays."""
    return min(max(round(rate * DECISIONS), 1), DECISIONS - 1) if rate > 0 else 0


def random_bytes(key: Array, shape: tuple[int, ...]) -> Array:
    """Draw uint8 of a shape of at least one axis; the words they are of lie along the last."""
    words = jax.random.bits(key, (*shape[:-1], -(-shape[-1] // PER_WORD)), jnp.uint32)
    return jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(*shape[:-1], -1)[..., : shape[-1]]
