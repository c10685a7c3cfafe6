"""Matrix products whose operands have the compute dtype and whose sums are float32, in both directions."""

from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_PARTS = 8  # as many as devices may share the columns of a matrix


def contract(equation: str, x: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "..."]:
    """Einsum of two arrays of the same dtype, accumulated and returned in float32."""
    return jnp.einsum(equation, x, y, preferred_element_type=jnp.float32)


def product(x: Float[Array, "n i"], kernel: Float[Array, "i o"], dtype: jnp.dtype) -> Float[Array, "n o"]:
    """`x @ kernel` with the kernel rounded to the dtype of `x`, summed in float32 and returned in `dtype`.

    Differentiable in reverse mode only. What JAX would derive multiplies a float32 cotangent with a bfloat16 operand,
    for which processors have no instruction; here the operands of all three products have the dtype of `x`, and the
    gradient for the kernel is never rounded to it.
    """
    return cast(Array, _product(x, kernel, dtype))


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _product(x: Float[Array, "n i"], kernel: Float[Array, "i o"], dtype: jnp.dtype) -> Float[Array, "n o"]:
    return contract("ni,io->no", x, kernel.astype(x.dtype)).astype(dtype)


def _product_forward(
    x: Float[Array, "n i"], kernel: Float[Array, "i o"], dtype: jnp.dtype
) -> tuple[Float[Array, "n o"], tuple[Float[Array, "n i"], Float[Array, "i o"]]]:
    return _product(x, kernel, dtype), (x, kernel)


def _product_backward(
    dtype: jnp.dtype, residuals: tuple[Float[Array, "n i"], Float[Array, "i o"]], cotangent: Float[Array, "n o"]
) -> tuple[Float[Array, "n i"], Float[Array, "i o"]]:
    del dtype  # that of the cotangent
    x, kernel = residuals
    rounded = cotangent.astype(x.dtype)
    for_x = contract("no,io->ni", rounded, kernel.astype(x.dtype)).astype(x.dtype)
    for_kernel = jax.lax.platform_dependent(x, rounded, cpu=_sum_over_copied_rows, default=_sum_over_rows)
    return for_x, for_kernel.astype(kernel.dtype)


def _sum_over_rows(x: Float[Array, "n i"], y: Float[Array, "n o"]) -> Float[Array, "i o"]:
    return contract("ni,no->io", x, y)


def _sum_over_copied_rows(x: Float[Array, "n i"], y: Float[Array, "n o"]) -> Float[Array, "i o"]:
    """The sum over rows as a product of rows by columns, the only one that XLA's CPU compiler computes in bfloat16.

    A mere transpose it would take back into the product. Cut in parts, columns that devices share stay where they are.
    The barrier keeps it from a product whose result is laid out the other way round, which it then refuses to run.
    """
    if x.dtype != jnp.bfloat16 or x.shape[1] % _PARTS:
        return _sum_over_rows(x, y)
    parts = x.reshape(x.shape[0], _PARTS, -1).transpose(1, 2, 0)
    return jax.lax.optimization_barrier(contract("in,no->io", parts.reshape(x.shape[1], x.shape[0]), y))


_product.defvjp(_product_forward, _product_backward)
