"""The product of states with a kernel against the plain one and its own derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realm_jax.ops.product import product


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


def test_float32_sums_are_asked_of_a_processor_alone():
    rows, kernel = jnp.ones((2, 3), jnp.bfloat16), jnp.ones((3, 4), jnp.bfloat16)
    traced = jax.jit(jax.grad(lambda *both: product(*both).sum().astype(jnp.float32))).trace(rows, kernel)

    def results(platform: str) -> set[str]:
        program = traced.lower(lowering_platforms=(platform,)).as_text()
        return {line.rsplit("x", 1)[1] for line in program.splitlines() if "dot_general" in line}

    assert results("cpu") == {"f32>"} and results("tpu") == {"bf16>"}
