"""Laws of products with float32 sums."""

import jax
import jax.numpy as jnp
import numpy as np

from agentprm_jax.models.products import product


def operands(dtype):
    rng = np.random.default_rng(0)
    x, kernel = rng.standard_normal((300, 8)), rng.standard_normal((8, 5))
    return jnp.asarray(x, dtype), jnp.asarray(kernel, jnp.float32)


def test_in_float32_value_and_gradient_are_those_of_matmul():
    x, kernel = operands(jnp.float32)
    weights = jnp.arange(1500.0).reshape(300, 5) / 1500
    ours = jax.value_and_grad(lambda x, k: jnp.sum(product(x, k, jnp.dtype("float32")) * weights), argnums=(0, 1))
    plain = jax.value_and_grad(lambda x, k: jnp.sum((x @ k) * weights), argnums=(0, 1))
    for a, b in zip(jax.tree.leaves(ours(x, kernel)), jax.tree.leaves(plain(x, kernel)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_the_gradient_for_a_float32_kernel_is_summed_and_kept_in_float32():
    x, kernel = operands(jnp.bfloat16)
    gradient = jax.grad(lambda k: jnp.sum(product(x, k, jnp.dtype("bfloat16")).astype(jnp.float32)))(kernel)
    exact = x.astype(jnp.float32).sum(0)[:, None] * jnp.ones((8, 5))
    assert gradient.dtype == jnp.float32
    np.testing.assert_allclose(gradient, exact, rtol=1e-5, atol=1e-5)


def test_the_result_has_the_dtype_asked_for_and_float32_is_not_rounded_on_the_way():
    x, kernel = operands(jnp.bfloat16)
    wide = product(x, kernel, jnp.dtype("float32"))
    exact = x.astype(jnp.float32) @ kernel.astype(jnp.bfloat16).astype(jnp.float32)
    assert product(x, kernel, jnp.dtype("bfloat16")).dtype == jnp.bfloat16
    np.testing.assert_allclose(wide, exact, rtol=1e-5, atol=1e-5)


def test_the_gradient_for_a_kernel_may_be_wanted_transposed():
    x, kernel = operands(jnp.bfloat16)
    gradient = jax.grad(lambda k: jnp.sum(product(x, k, jnp.dtype("bfloat16")).astype(jnp.float32) ** 2))
    np.testing.assert_allclose(jax.jit(lambda k: gradient(k).T)(kernel), jax.jit(gradient)(kernel).T, rtol=1e-6)
