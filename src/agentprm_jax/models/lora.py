"""Low-rank adapters as a tree of their own: made, laid beside the kernels of a base, and merged into them.

The adapter of a kernel `[l, *inputs, *outputs]` is `lora_a [l, *inputs, r]` and `lora_b [l, r, *outputs]`, at the path
of the kernel. A model is applied with adapters by applying it to `with_adapters(...)`: nothing is copied, and a
gradient for the adapters never makes one for the base.
"""

import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict
from jaxtyping import PRNGKeyArray

from agentprm_jax.models.lora_config import PROJECTIONS, LoraConfig
from agentprm_jax.models.parameters import LORA_A, LORA_B, Params, leaves_by_path

TRAINED_WHOLE = ("value_head",)
"""Subtrees of the parameters that are trained themselves where the rest is adapted: they were never trained before."""


def init_trained(lora: LoraConfig, params: Params, key: PRNGKeyArray) -> Params:
    """What is trained of a model: adapters that change nothing yet, and the subtrees `TRAINED_WHOLE` as they are.

    Args:
        lora: which kernels, and the rank.
        params: the model's parameters; of the base only shapes are read.
        key: source of randomness.

    Returns:
        A tree of float32 adapters: A uniform in ±1/sqrt(inputs), as Kaiming's with a = sqrt(5) and as `peft` draws it;
        B zero. Beside it the subtrees that are trained whole.
    """
    flat = leaves_by_path(params)
    adapters = {}
    for path, inputs in _targets(lora):
        shape = flat[*path, "kernel"].shape
        layers, into, out = shape[:1], shape[1 : 1 + inputs], shape[1 + inputs :]
        bound = 1.0 / math.sqrt(math.prod(into))
        own_key = jax.random.fold_in(key, list(PROJECTIONS).index("/".join(path)))
        adapters[*path, LORA_A] = jax.random.uniform(own_key, (*layers, *into, lora.rank), minval=-bound, maxval=bound)
        adapters[*path, LORA_B] = jnp.zeros((*layers, lora.rank, *out))
    return unflatten_dict(adapters) | {name: params[name] for name in TRAINED_WHOLE if name in params}


def trained_axes(lora: LoraConfig, axes: Params) -> Params:
    """Logical axes of what `init_trained` makes, from those of the model; the axis of the rank is named `rank`."""
    flat = leaves_by_path(axes)
    adapters = {}
    for path, inputs in _targets(lora):
        kernel = flat[*path, "kernel"]
        adapters[*path, LORA_A] = (*kernel[: 1 + inputs], "rank")
        adapters[*path, LORA_B] = (*kernel[:1], "rank", *kernel[1 + inputs :])
    return unflatten_dict(adapters) | {name: axes[name] for name in TRAINED_WHOLE if name in axes}


def with_adapters(lora: LoraConfig, base: Params, trained: Params) -> Params:
    """Parameters for the forward passes: the base, with every adapter beside its kernel and scaled.

    Args:
        lora: gives the scale.
        base: the frozen parameters; what is trained whole need not be among them.
        trained: adapters and what is trained whole.

    Raises:
        ValueError: the adapters are not those of `lora`.
    """
    check_adapters(lora, trained)
    changes = {
        path: leaf * lora.scale if path[-1] == LORA_A else leaf for path, leaf in leaves_by_path(trained).items()
    }
    return unflatten_dict(leaves_by_path(base) | changes)


def merge_adapters(lora: LoraConfig, base: Params, trained: Params) -> Params:
    """Parameters of an ordinary model that computes what the base computes with its adapters.

    Sums are made in float32, a block at a time, and rounded to the type that the kernel is stored in.

    Args:
        lora: which kernels, and the scale.
        base: the parameters, in memory of the host or of a device; they stay as they are.
        trained: adapters, and what is trained whole.

    Returns:
        The parameters; those that changed are NumPy arrays.

    Raises:
        ValueError: the adapters are not those of `lora`.
    """
    check_adapters(lora, trained)
    flat, changes = leaves_by_path(base), leaves_by_path(trained)
    merged = dict(flat)
    for path, _ in _targets(lora):
        kernel, a, b = np.asarray(flat[*path, "kernel"]), changes.pop((*path, LORA_A)), changes.pop((*path, LORA_B))
        merged[*path, "kernel"] = _merged(kernel, np.asarray(a), np.asarray(b), lora.scale)
    return unflatten_dict(merged | changes)


def check_adapters(lora: LoraConfig, trained: Params) -> None:
    """Checks that both factors of an adapter are at every path of `lora` and nowhere else, of its rank.

    Raises:
        ValueError: they are not; the message names the path.
    """
    ranks = {
        "/".join(path): leaf.shape[-1 if path[-1] == LORA_A else 1]
        for path, leaf in leaves_by_path(trained).items()
        if path[-1] in (LORA_A, LORA_B)
    }
    wanted = {f"{path}/{factor}": lora.rank for path in lora.paths for factor in (LORA_A, LORA_B)}
    for name in sorted(ranks.keys() | wanted.keys()):
        got, expected = (f"rank {found[name]}" if name in found else "nothing" for found in (ranks, wanted))
        if got != expected:
            raise ValueError(f"The adapter {name}: expected {expected}, as the LoraConfig says, got {got}.")


def _merged(kernel: np.ndarray, a: np.ndarray, b: np.ndarray, scale: float) -> np.ndarray:
    out = np.empty_like(kernel)
    for layer in range(len(kernel)):
        change = np.float32(scale) * np.tensordot(a[layer], b[layer], 1)
        out[layer] = (kernel[layer].astype(np.float32) + change).astype(kernel.dtype)
    return out


def _targets(lora: LoraConfig) -> Iterator[tuple[tuple[str, ...], int]]:
    """Path and number of input axes of every adapted kernel."""
    for path in lora.paths:
        yield tuple(path.split("/")), PROJECTIONS[path]
