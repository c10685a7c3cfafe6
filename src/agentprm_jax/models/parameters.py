"""The seam between Linen and plain dicts: how modules declare parameters, and how they are initialised and applied."""

from collections.abc import Callable
from typing import Any, cast

import flax.linen as nn
import jax.numpy as jnp
from flax.traverse_util import flatten_dict
from jaxtyping import Array, PRNGKeyArray

from agentprm_jax.models.bits import as_floats

Params = dict[str, Any]
Initializer = Callable[..., Array]

LORA_A, LORA_B = "lora_a", "lora_b"
"""Names of the two factors of an adapter, beside the `kernel` that they adapt."""


def declare(
    module: nn.Module, name: str, init: Initializer, shape: tuple[int, ...], axes: tuple[str, ...], dtype: str
) -> Array:
    """A parameter of a module, with the logical name of each of its axes, for use inside its `__call__`.

    It may be given as its bits, see `narrow_as_bits`.
    """
    boxed = nn.with_logical_partitioning(init, axes)
    return as_floats(cast(Array, module.param(name, boxed, shape, jnp.dtype(dtype))))


def given(module: nn.Module, name: str) -> Array | None:
    """A parameter that a module uses where it is given, and does without where it is not; for use in its `__call__`."""
    parameter = cast(Array | None, module.get_variable("params", name))
    return None if parameter is None else as_floats(parameter)


def init_boxed(module: nn.Module, key: PRNGKeyArray, *inputs: Any) -> Params:
    """Random parameters of a module, each in a box that holds the logical names of its axes."""
    return cast(Params, module.init(key, *inputs))["params"]


def apply(module: nn.Module, params: Params, *inputs: Any) -> Any:
    """The module's output for given parameters."""
    return module.apply({"params": params}, *inputs)


def leaves_by_path(params: Params) -> dict[tuple[str, ...], Any]:
    """What stands in a tree of parameters, by its keys."""
    return cast(dict[tuple[str, ...], Any], flatten_dict(params))
