"""One step on so many chips in one mesh: compiled or taken from the cache, with its roofline."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agentprm_jax.training.config import MeshConfig
from agentprm_jax.training.mesh import make_mesh
from agentprm_jax.training.planning.arithmetic import estimate
from agentprm_jax.training.planning.chips import GPUS, TPUS, Chip, Gpu, topology_name
from agentprm_jax.training.planning.costs import Costs, count_costs
from agentprm_jax.training.planning.hlo import parse_module
from agentprm_jax.training.planning.programs import Memory, compiled_before, digest_of, lower_step, tpu_devices
from agentprm_jax.training.planning.roofline import Roofline, tpu_roofline
from agentprm_jax.training.planning.work import Workload


@dataclass(frozen=True)
class Plan:
    """What a step needs."""

    chip: Chip
    """Kind of the chips."""
    mesh: MeshConfig
    """How they are arranged."""
    workload: Workload
    """The step."""
    memory: Memory
    """On each chip."""
    costs: Costs | None
    """What a chip does; None for GPUs, of which no program is read, and where it does not fit."""
    roofline: Roofline | None
    """Least times; None where it does not fit."""

    @property
    def chips(self) -> int:
        """Number of chips."""
        return int(np.prod(self.mesh.shape))

    @property
    def fits(self) -> bool:
        """Whether the step fits in memory."""
        return self.roofline is not None and self.memory.total <= self.chip.hbm_bytes

    @property
    def utilisation(self) -> float:
        """Bound on the share of peak operations that go into the model; 0 where the step does not fit."""
        if self.roofline is None or not self.fits:
            return 0.0
        return self.roofline.utilisation(self.workload.model_flops / self.chips, self.chip.flops)

    @property
    def chip_seconds_per_token(self) -> float:
        """Chip time for each token, at best."""
        assert self.roofline is not None, "Only a step that fits has a time."
        return self.roofline.seconds * self.chips / self.workload.tokens

    @property
    def unhidden_chip_seconds_per_token(self) -> float:
        """Chip time for each token if no work of a chip is hidden behind other work."""
        assert self.roofline is not None, "Only a step that fits has a time."
        return self.roofline.unhidden * self.chips / self.workload.tokens


def plan_step(chip: str, mesh: MeshConfig, workload: Workload, cache: Path) -> Plan:
    """Plans a step: compiles it for TPUs, computes it for GPUs.

    Args:
        chip: a name in `TPUS` or `GPUS`.
        mesh: arrangement of the chips.
        workload: the step.
        cache: folder in which to look for, and keep, compiled programs.

    Raises:
        ValueError: there is no such slice, or rows or parameters do not fit the mesh.
        RuntimeError: libtpu is not installed.
    """
    if chip in GPUS:
        return _plan_on_gpus(GPUS[chip], mesh, workload)
    tpu = TPUS[chip]
    topology = topology_name(tpu, int(np.prod(mesh.shape)))
    placed = make_mesh(mesh, tpu_devices(topology))
    lowered = lower_step(workload, placed)
    compiled = compiled_before(cache / f"{digest_of(lowered, topology, placed)}.json.gz", lowered)
    costs = None if compiled.text is None else count_costs(parse_module(compiled.text))
    coordinates = [tuple(device.coords) for device in placed.devices.flat]
    roofline = None if costs is None else tpu_roofline(tpu, costs, coordinates)
    return Plan(tpu, mesh, workload, compiled.memory, costs, roofline)


def best_first(plans: list[Plan]) -> list[Plan]:
    """Plans by the time of a token, halfway between all and nothing hidden; those that do not fit at the end."""

    def time(plan: Plan) -> float:
        return plan.chip_seconds_per_token + plan.unhidden_chip_seconds_per_token

    return sorted(plans, key=lambda plan: time(plan) if plan.fits else float("inf"))


def _plan_on_gpus(chip: Gpu, mesh: MeshConfig, workload: Workload) -> Plan:
    found = estimate(chip, workload, mesh)
    memory = Memory(found.state, 0.0, found.activations, None)
    return Plan(chip, mesh, workload, memory, None, found.roofline)
