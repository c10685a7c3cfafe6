"""What gae becomes on a TPU chip, without one: compiled ahead of time by libtpu."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

TOPOLOGY = "v5p:2x4x4"
"""The smallest slice whose description is asked for; the program is compiled for one chip of it."""
ONE, BY_STEP = "one", "a step"
MISSING = "No TPU report: the package libtpu is not installed (it needs Python 3.12 or newer and Linux)."


class Compiled(NamedTuple):
    """The compiler's own figures of one shape.

    Attributes:
        shape: rows and steps.
        discounts: `one`, or `a step` where every step has its own.
        flops: floating-point operations.
        bytes_accessed: bytes read and written by all operations, those that stay on the chip included.
        steps: iterations of all loops together, which come one after the other.
        temporaries: bytes of memory beside inputs and outputs.
    """

    shape: tuple[int, int]
    discounts: str
    flops: float
    bytes_accessed: float
    steps: int
    temporaries: int

    @property
    def least_bytes(self) -> int:
        """What any program must move: rewards, values and a discount for every step in, advantages out."""
        rows, steps = self.shape
        return 4 * rows * ((3 if self.discounts == ONE else 4) * steps + 1)


def compile_for_tpu(shapes: Sequence[tuple[int, int]]) -> list[Compiled] | None:
    """Compiles gae of float32 for one v5p chip, with one discount and with one for every step.

    Returns:
        Two reports a shape; None if libtpu is not installed.
    """
    if importlib.util.find_spec("libtpu") is None:
        return None
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"
    from jax.experimental import topologies
    from jax.sharding import SingleDeviceSharding

    chip = topologies.get_topology_desc(platform="tpu", topology_name=TOPOLOGY).devices[0]
    sharding = SingleDeviceSharding(chip)
    return [_compile(shape, discounts, sharding) for shape in shapes for discounts in (ONE, BY_STEP)]


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


def _compile(shape: tuple[int, int], discounts: str, sharding: Any) -> Compiled:
    import jax
    import jax.numpy as jnp
    from gae_implementations import GAMMA, LAM

    from agentprm_jax.numerics.targets import gae

    rows, steps = shape
    arrays = [jax.ShapeDtypeStruct((rows, n), jnp.float32, sharding=sharding) for n in (steps, steps + 1, steps)]
    function = functools.partial(gae, lam=LAM)
    if discounts == ONE:
        function, arrays = functools.partial(function, discounts=GAMMA), arrays[:2]
    compiled: Any = jax.jit(function).lower(*arrays).compile()
    costs = compiled.cost_analysis()
    return Compiled(
        shape,
        discounts,
        costs["flops"],
        costs["bytes accessed"],
        sequential_steps(compiled.as_text()),
        compiled.memory_analysis().temp_size_in_bytes,
    )
