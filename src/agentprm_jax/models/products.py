"""Matrix products whose operands have the compute dtype and whose sums are float32, in both directions."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def contract(equation: str, x: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "..."]:
    """Einsum of two arrays of the same dtype, accumulated and returned in float32."""
    return jnp.einsum(equation, x, y, preferred_element_type=jnp.float32)


@jax.custom_vjp
def product(x: Float[Array, "n i"], kernel: Float[Array, "i o"]) -> Float[Array, "n o"]:
    """`x @ kernel` with the kernel rounded to the dtype of `x`; sums in float32, the result in the dtype of `x`.

    Differentiable in reverse mode only. What JAX would derive multiplies the float32 cotangent with a bfloat16 operand,
    which no processor has an instruction for; here all three products have operands of one dtype, and the gradient for
    the kernel is never rounded to the dtype of `x`.
    """
    return contract("ni,io->no", x, kernel.astype(x.dtype)).astype(x.dtype)


def _product_forward(
    x: Float[Array, "n i"], kernel: Float[Array, "i o"]
) -> tuple[Float[Array, "n o"], tuple[Float[Array, "n i"], Float[Array, "i o"]]]:
    return product(x, kernel), (x, kernel)


def _product_backward(
    residuals: tuple[Float[Array, "n i"], Float[Array, "i o"]], cotangent: Float[Array, "n o"]
) -> tuple[Float[Array, "n i"], Float[Array, "i o"]]:
    x, kernel = residuals
    for_x = contract("no,io->ni", cotangent, kernel.astype(x.dtype)).astype(x.dtype)
    return for_x, contract("ni,no->io", x, cotangent).astype(kernel.dtype)


product.defvjp(_product_forward, _product_backward)
