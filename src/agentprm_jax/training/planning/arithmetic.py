"""Memory and time of a step by arithmetic alone: all that is said of GPUs, and what meshes of TPUs are chosen by."""

from dataclasses import dataclass

from agentprm_jax.training.config import MeshConfig
from agentprm_jax.training.planning.chips import Gpu, Tpu
from agentprm_jax.training.planning.roofline import Roofline
from agentprm_jax.training.planning.work import (
    Workload,
    adapter_parameters,
    frozen_bytes,
    matrix_parameters,
    trained_bytes,
    trained_parameters,
)

ACTIVATION_BYTES = 2
LOGIT_BYTES = 4
GRADIENT_BYTES = 4
"""Of a kernel's gradient, which is reduced as it is summed, in float32; tests read that off a compiled program."""


@dataclass(frozen=True)
class Estimate:
    """What a step needs on each chip."""

    state: float
    """Bytes of parameters, moments and gradients."""
    activations: float
    """Bytes of activations, and of kernels that are collected for them, that are held at one time."""
    roofline: Roofline
    """Least times."""

    @property
    def total(self) -> float:
        """Bytes of both."""
        return self.state + self.activations


def estimate(chip: Tpu | Gpu, workload: Workload, mesh: MeshConfig) -> Estimate:
    """Estimates a step as the library lays it out.

    Parameters, moments and gradients lie over fsdp x tensor. With remat a block keeps its input alone and computes the
    rest again, which costs a forward pass. An actor's logits and their gradient are whole, float32 numbers for every
    token and word. Traffic of main memory is that of the state, and of activations as often as they are saved and read.
    """
    devices, cut = mesh.data * mesh.fsdp * mesh.tensor, mesh.fsdp * mesh.tensor
    tokens = _tokens(workload, mesh)
    kept = workload.model.layers * tokens * _kept_width(workload, mesh.tensor) * ACTIVATION_BYTES
    logits = _logit_bytes(workload, mesh)
    frozen, trained = frozen_bytes(workload) / cut, trained_bytes(workload, mesh.fsdp, mesh.tensor)
    working = tokens * (workload.model.embed + workload.model.mlp / mesh.tensor) * ACTIVATION_BYTES * 4
    held = working + logits + _collected_bytes(workload, mesh) + (kept if workload.trains else 0.0)
    again = workload.forward_flops if workload.trains and workload.model.remat else 0.0
    compute = (workload.model_flops + again) / devices / chip.flops
    moved = frozen + 2 * trained + 2 * (kept + logits) + workload.microbatches * _kernel_bytes(workload) / mesh.tensor
    exchange = _exchange_seconds(chip, workload, mesh)
    return Estimate(frozen + trained, held, Roofline(compute, moved / chip.hbm_bandwidth, exchange))


def _tokens(workload: Workload, mesh: MeshConfig) -> float:
    """Tokens that a chip holds at one time."""
    return workload.tokens / (mesh.data * mesh.fsdp * workload.microbatches)


def _kernel_bytes(workload: Workload) -> float:
    """Bytes of kernels that one microbatch touches: forwards, backwards once more, and their gradients."""
    forwards = (2 if workload.trains else 1) * workload.matrices
    return forwards * ACTIVATION_BYTES + workload.trained_matrices * GRADIENT_BYTES


def _collected_bytes(workload: Workload, mesh: MeshConfig) -> float:
    """Bytes of a block's whole kernels beside those of the next, which are on their way, and of its whole gradients."""
    if mesh.fsdp == 1:
        return 0.0
    blocks = matrix_parameters(workload.model, head=False) + sum(adapter_parameters(workload.model, workload.lora))
    trained = min(workload.trained_matrices, blocks)  # an actor's head stands in no block
    return (2 * blocks * ACTIVATION_BYTES + trained * GRADIENT_BYTES) / workload.model.layers / mesh.tensor


def _exchange_seconds(chip: Tpu | Gpu, workload: Workload, mesh: MeshConfig) -> float:
    """Time of a chip for what it receives, one exchange after the other.

    A block's kernels are collected over fsdp whenever they are used, and the gradients of those that are trained are
    reduced and cut. Copies (data) reduce what is left of the gradients as well, and both do so for every microbatch.
    Tensor adds up what each block computes, twice a pass. Chips along tensor stand side by side, then those along fsdp.
    """
    model, copy = workload.model, mesh.fsdp * mesh.tensor
    kernels = workload.microbatches * _kernel_bytes(workload) / mesh.tensor * _others(mesh.fsdp)
    trained = trained_parameters(workload, mesh.fsdp, mesh.tensor)
    gradients = workload.microbatches * 2 * trained * GRADIENT_BYTES * _others(mesh.data)
    sums = (3 if workload.trains else 1) * 4 * model.layers * _tokens(workload, mesh) * workload.microbatches
    return (
        kernels / chip.bandwidth_among(copy, groups=mesh.tensor)
        + gradients / chip.bandwidth_among(mesh.data * copy, groups=copy)
        + sums * model.embed * ACTIVATION_BYTES * _others(mesh.tensor) / chip.bandwidth_among(mesh.tensor)
    )


def _others(size: int) -> float:
    """The share that comes from others in a group of so many."""
    return (size - 1) / size


def _logit_bytes(workload: Workload, mesh: MeshConfig) -> float:
    """Bytes of an actor's logits and their gradient; a reward model has one number for a step instead."""
    if workload.step != "sft":
        return 0.0
    return 2 * LOGIT_BYTES * _tokens(workload, mesh) * workload.model.vocab_size / mesh.tensor


def _kept_width(workload: Workload, tensor: int) -> float:
    """Numbers that a block keeps of every token for the backward pass, on each device."""
    model = workload.model
    if model.remat or not workload.trains:
        return model.embed
    heads = (2 * model.heads + 2 * model.kv_heads) * model.head_dim
    return 2 * model.embed + (heads + 2 * model.mlp) / tensor
