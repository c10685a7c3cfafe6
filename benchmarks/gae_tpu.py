"""What gae and token_gae become on a TPU chip, without one: compiled ahead of time by libtpu."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

TOPOLOGY = "v5p:2x4x4"
"""The smallest slice whose description is asked for; the program is compiled for one chip of it."""
ONE, BY_STEP, TOKENS = FORMS = ("one discount", "a discount a step", "tokens")


class Compiled(NamedTuple):
    """The compiler's own figures of one shape.

    Attributes:
        shape: rows and steps.
        form: one of FORMS.
        flops: floating-point operations.
        bytes_accessed: bytes read and written by all operations, those that stay on the chip included.
        least_bytes: what any program must move, its inputs and the advantages.
        steps: iterations of all loops together, which come one after the other.
        temporaries: bytes of memory beside inputs and outputs.
    """

    shape: tuple[int, int]
    form: str
    flops: float
    bytes_accessed: float
    least_bytes: int
    steps: int
    temporaries: int


def compile_for_tpu(shapes: Sequence[tuple[int, int]]) -> list[Compiled] | str:
    """Compiles gae of float32 for one v5p chip, with one discount and with one for every step, and token_gae.

    Returns:
        Three reports a shape; or why there are none, in a sentence.
    """
    from jax.sharding import SingleDeviceSharding

    from agentprm_jax.training.planning.programs import tpu_devices

    try:
        sharding = SingleDeviceSharding(tpu_devices(TOPOLOGY)[0])
        return [_compile(shape, form, sharding) for shape in shapes for form in FORMS]
    except (RuntimeError, ValueError) as error:  # of libtpu's, or of a program whose loops cannot be read
        return f"Nothing was compiled: {error}"


def sequential_steps(program: str) -> int:
    """Sum of the bounds of a compiled program's loops, none of which stands in another, as its conditions state them.

    Raises:
        ValueError: a loop has no constant bound, or stands in another.
    """
    total = 0
    for body in re.findall(r" while\(.*?body=(%[\w.\-]+)", program):
        inner = re.search(rf"^{re.escape(body)} \(.*?^}}", program, re.DOTALL | re.MULTILINE)
        if inner and " while(" in inner.group(0):
            raise ValueError(f"The loop with body {body} must hold no other loop, but does: its steps would multiply.")
    for condition in re.findall(r" while\(.*?condition=(%[\w.\-]+)", program):
        body = re.search(rf"^{re.escape(condition)} \(.*?^}}", program, re.DOTALL | re.MULTILINE)
        bounds = re.findall(r"s32\[\]\S* constant\((\d+)\)", body.group(0)) if body else []
        if len(bounds) != 1:
            raise ValueError(f"The loop with condition {condition} must have one constant bound, but has {bounds}.")
        total += int(bounds[0])
    return total


def _compile(shape: tuple[int, int], form: str, sharding: Any) -> Compiled:
    import jax

    function, arrays = _program(shape, form, sharding)
    compiled: Any = jax.jit(function).lower(*arrays).compile()
    costs = compiled.cost_analysis()
    return Compiled(
        shape,
        form,
        costs["flops"],
        costs["bytes accessed"],
        sum(array.size * array.dtype.itemsize for array in (*arrays, jax.eval_shape(function, *arrays))),
        sequential_steps(compiled.as_text()),
        compiled.memory_analysis().temp_size_in_bytes,
    )


def _program(shape: tuple[int, int], form: str, sharding: Any) -> tuple[Any, list[Any]]:
    """A function, and arrays of float32, and booleans for which tokens act, as it takes them."""
    import jax
    import jax.numpy as jnp
    from gae_implementations import GAMMA, LAM

    from agentprm_jax.numerics.targets import gae, token_gae

    rows, steps = shape
    numbers, values = (jax.ShapeDtypeStruct((rows, n), jnp.float32, sharding=sharding) for n in (steps, steps + 1))
    acts = jax.ShapeDtypeStruct(shape, jnp.bool_, sharding=sharding)
    return {
        ONE: (functools.partial(gae, discounts=GAMMA, lam=LAM), [numbers, values]),
        BY_STEP: (functools.partial(gae, lam=LAM), [numbers, values, numbers]),
        TOKENS: (functools.partial(token_gae, gamma=GAMMA, lam=LAM), [numbers, numbers, acts]),
    }[form]
