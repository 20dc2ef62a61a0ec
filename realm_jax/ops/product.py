"""What a linear layer computes: the product of states with a kernel, its gradients written out, and a bias.

Automatic differentiation computes the kernel's gradient transposed and turns it round. On a CPU, XLA then
misses the library it multiplies fastest with: such a product took 2.3 times as long, and all of them a fifth
of a pre-training step.

Letters: I in, O out.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from realm_jax.types import Array

PRODUCT = "product"  # the name by which rematerialisation knows one


def product(states: Array, kernel: Array) -> Array:
    """Multiply states `[..., I]` with a kernel `[I, O]`: `[..., O]` of their dtype."""
    return checkpoint_name(_product(states, kernel, states.dtype), PRODUCT)


def scores_of(states: Array, kernel: Array) -> Array:
    """Multiply states `[..., I]` with a kernel `[I, O]` of their dtype: float32 `[..., O]`, not rounded."""
    return checkpoint_name(_product(states, kernel, jnp.float32), PRODUCT)


def add_bias(states: Array, bias: Array) -> Array:
    """Add a bias to states of any dtype, in float32, and return their dtype.

    Its gradient is then a sum over all rows in float32; in bfloat16 that of 131,072 tokens is off by 4%.

    Args:
      states: `[..., *bias]`.
      bias: float32.
    """
    total = states.astype(jnp.float32) + jnp.broadcast_to(bias, states.shape)
    return total.astype(states.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _product(states: Array, kernel: Array, dtype: jnp.dtype) -> Array:
    return _contract(states, kernel, (states.ndim - 1,), (0,), dtype)


def _forward(states: Array, kernel: Array, dtype: jnp.dtype) -> tuple[Array, tuple[Array, Array]]:
    return _product(states, kernel, dtype), (states, kernel)


def _backward(dtype: jnp.dtype, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    del dtype
    states, kernel = saved
    gradient = gradient.astype(states.dtype)
    rows = tuple(range(states.ndim - 1))
    # The left side is laid out anew by the compiler, so it is the narrower one.
    if states.shape[-1] <= gradient.shape[-1]:
        of_kernel = _contract(states, gradient, rows, rows, kernel.dtype)
    else:  # without the barrier the transposition is moved into the product, and nothing is gained
        of_kernel = lax.optimization_barrier(_contract(gradient, states, rows, rows, kernel.dtype)).T
    return _contract(gradient, kernel, (states.ndim - 1,), (1,), states.dtype), of_kernel


def _contract(
    left: Array, right: Array, left_axes: tuple[int, ...], right_axes: tuple[int, ...], dtype: jnp.dtype
) -> Array:
    over = ((left_axes, right_axes), ((), ()))

    def multiply(left: Array, right: Array) -> Array:
        return lax.dot_general(left, right, over, preferred_element_type=dtype)

    def multiply_in_float32(left: Array, right: Array) -> Array:
        return lax.dot_general(left, right, over, preferred_element_type=jnp.float32).astype(dtype)

    if left.dtype == jnp.float32:
        return multiply(left, right)
    # Sums are float32. That is what accelerators do anyway, and asked for it the TPU compiler keeps arrays of
    # them; a CPU that multiplies bfloat16 in hardware only does so if asked.
    return lax.platform_dependent(left, right, cpu=multiply_in_float32, default=multiply)


_product.defvjp(_forward, _backward)
