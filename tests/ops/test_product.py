"""The product of states with a kernel against the plain one and its own derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realm_jax.ops.product import add_bias, product, scores_of


@pytest.mark.parametrize(("wide", "narrow"), [(3, 5), (5, 3)])
@pytest.mark.parametrize("leading", [(4,), (2, 3, 2)])
def test_value_and_gradients_are_those_of_the_plain_product(leading, wide, narrow):
    rng = np.random.default_rng(0)
    states = rng.standard_normal((*leading, wide)).astype(np.float32)
    kernel, weights = (
        rng.standard_normal(shape).astype(np.float32) for shape in ((wide, narrow), (*leading, narrow))
    )
    value, pull = jax.vjp(product, states, kernel)
    of_states, of_kernel = pull(weights)
    np.testing.assert_allclose(value, states @ kernel, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(of_states, weights @ kernel.T, rtol=1e-5, atol=1e-6)
    rows = states.reshape(-1, wide).T @ weights.reshape(-1, narrow)
    np.testing.assert_allclose(of_kernel, rows, rtol=1e-5, atol=1e-5)


def test_types_stay_those_of_the_arguments():
    states, kernel = jnp.ones((2, 3), jnp.bfloat16), jnp.ones((3, 4), jnp.bfloat16)
    value, pull = jax.vjp(product, states, kernel)
    assert {value.dtype, *(gradient.dtype for gradient in pull(value))} == {jnp.dtype(jnp.bfloat16)}


def test_scores_are_not_rounded_to_the_dtype_of_the_states():
    """256 products of 1 and one of 2^-7: rounded to bfloat16 the small one would be lost."""
    states = jnp.ones((2, 257), jnp.bfloat16)
    kernel = jnp.ones((257, 1), jnp.bfloat16).at[0].set(2.0**-7)
    value, pull = jax.vjp(scores_of, states, kernel)
    assert value.dtype == jnp.float32 and (value == 256 + 2.0**-7).all()
    assert [gradient.dtype for gradient in pull(value)] == [jnp.bfloat16] * 2


def test_a_bias_is_added_and_its_gradient_summed_in_float32():
    """300 gradients of 1: in bfloat16 the sum stays at 256."""
    states, bias = jnp.full((3, 100, 2), 256, jnp.bfloat16), jnp.array([1.0, -1.0])
    value, pull = jax.vjp(add_bias, states, bias)
    assert value.dtype == jnp.bfloat16 and value.tolist() == [[[256, 255]] * 100] * 3
    of_states, of_bias = pull(jnp.ones_like(value))
    assert of_bias.dtype == jnp.float32 and of_bias.tolist() == [300, 300]
    assert of_states.dtype == jnp.bfloat16 and (of_states == 1).all()


def test_float32_sums_are_asked_of_a_processor_alone():
    rows, kernel = jnp.ones((2, 3), jnp.bfloat16), jnp.ones((3, 4), jnp.bfloat16)
    traced = jax.jit(jax.grad(lambda *both: product(*both).sum().astype(jnp.float32))).trace(rows, kernel)

    def results(platform: str) -> set[str]:
        program = traced.lower(lowering_platforms=(platform,)).as_text()
        return {line.rsplit("x", 1)[1] for line in program.splitlines() if "dot_general" in line}

    assert results("cpu") == {"f32>"} and results("tpu") == {"bf16>"}
