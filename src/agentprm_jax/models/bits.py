"""Floats as their bits.

XLA's CPU compiler widens bfloat16 to float32 where it only moves numbers: all of an array of which it takes a slice, in
every call, and the whole of one into which it writes or scatters a row. Unsigned integers of the same width it leaves
alone.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped


def bits_dtype(dtype: str | jnp.dtype) -> jnp.dtype:
    """The unsigned integers as wide as floats of a dtype."""
    return jnp.dtype(f"uint{8 * jnp.dtype(dtype).itemsize}")


def as_bits(numbers: Shaped[Array, "*n"]) -> Shaped[Array, "*n"]:
    """The bits of floats, as unsigned integers of the same width."""
    return jax.lax.bitcast_convert_type(numbers, bits_dtype(numbers.dtype))


def narrow_as_bits(params: Any) -> Any:
    """Parameters whose bfloat16 arrays are replaced by their bits, which modules take as well (see `declare`).

    For programs that take no gradient. Parameters that do not lie on CPUs are returned as they are.
    """

    def replaced(leaf: Array) -> Array:
        on_cpu = all(device.platform == "cpu" for device in leaf.devices())
        return as_bits(leaf) if on_cpu and leaf.dtype == jnp.bfloat16 else leaf

    return jax.tree.map(replaced, params)


def as_floats(numbers: Shaped[Array, "*n"]) -> Shaped[Array, "*n"]:
    """What `narrow_as_bits` was given."""
    return jax.lax.bitcast_convert_type(numbers, jnp.bfloat16) if numbers.dtype == jnp.uint16 else numbers
