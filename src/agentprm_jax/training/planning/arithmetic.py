"""Memory and time of a step on GPUs, by arithmetic alone: nothing is compiled for them here."""

from dataclasses import dataclass

from agentprm_jax.training.config import MeshConfig
from agentprm_jax.training.planning.chips import Gpu
from agentprm_jax.training.planning.roofline import Roofline
from agentprm_jax.training.planning.work import Workload, all_parameters, matrix_parameters, state_bytes

ACTIVATION_BYTES = 2


@dataclass(frozen=True)
class GpuEstimate:
    """What a step needs on each of so many GPUs."""

    state: float
    """Bytes of parameters, moments and gradients."""
    activations: float
    """Bytes of activations that are held at one time."""
    roofline: Roofline
    """Least times."""


def gpu_estimate(chip: Gpu, workload: Workload, mesh: MeshConfig) -> GpuEstimate:
    """Estimates a step on GPUs, as the library lays it out.

    Parameters, moments and gradients lie over fsdp x tensor. A block's parameters are collected for the forward pass,
    for the backward pass once more, and its gradients are reduced and cut; copies (data) reduce gradients as well.
    With remat a block keeps its input alone and computes the rest again, which costs a forward pass. What several
    hosts exchange comes into a host through all of its network cards and is passed on inside. Traffic of main memory
    is that of the state, and of activations as often as they are saved and read.
    """
    model, cut = workload.model, mesh.fsdp * mesh.tensor
    devices = mesh.data * cut
    tokens = workload.tokens / (mesh.data * mesh.fsdp * workload.microbatches)
    kept = model.layers * tokens * _kept_width(workload, mesh.tensor) * ACTIVATION_BYTES
    state = state_bytes(workload) / cut
    working = tokens * (model.embed + model.mlp / mesh.tensor) * ACTIVATION_BYTES * 4
    held = working + (kept if workload.trains else 0.0)
    passes = workload.microbatches * (3 if workload.trains else 1)
    weights = matrix_parameters(model, head=workload.step == "sft") * ACTIVATION_BYTES / mesh.tensor
    received = passes * weights * (mesh.fsdp - 1) / mesh.fsdp
    if workload.trains:
        received += 2 * all_parameters(model, workload.step) * ACTIVATION_BYTES / cut * (mesh.data - 1) / mesh.data
    received += passes * 4 * model.layers * tokens * model.embed * ACTIVATION_BYTES * (mesh.tensor - 1) / mesh.tensor
    into_host = chip.per_host * chip.network_bandwidth
    bandwidth = chip.host_bandwidth if devices <= chip.per_host else min(chip.host_bandwidth, into_host)
    again = 4 / 3 if workload.trains and model.remat else 1.0
    compute = workload.model_flops * again / devices / chip.flops
    moved = state * (2 if workload.trains else 1) + 2 * kept + passes * weights
    return GpuEstimate(state, held, Roofline(compute, moved / chip.hbm_bandwidth, received / bandwidth))


def _kept_width(workload: Workload, tensor: int) -> float:
    """Numbers that a block keeps of every token for the backward pass, on each device."""
    model = workload.model
    if model.remat or not workload.trains:
        return model.embed
    heads = (2 * model.heads + 2 * model.kv_heads) * model.head_dim
    return 2 * model.embed + (heads + 2 * model.mlp) / tensor
