"""Which meshes are worth compiling a step for, by arithmetic, which takes no time."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from agentprm_jax.training.config import MeshConfig
from agentprm_jax.training.planning.arithmetic import Estimate, estimate
from agentprm_jax.training.planning.chips import Gpu, Tpu
from agentprm_jax.training.planning.work import Workload

ABOUT_AS_GOOD = 1.1
"""Times by arithmetic whose ratio is below this are not told apart: a compiled program decides between them."""


class Candidate(NamedTuple):
    """A step on a mesh."""

    mesh: MeshConfig
    """How the chips are arranged."""
    workload: Workload
    """The step; how many rows it has may depend on the mesh."""


class _Estimated(NamedTuple):
    candidate: Candidate
    estimate: Estimate

    @property
    def chip_seconds_per_token(self) -> float:
        mesh, workload = self.candidate
        return self.estimate.roofline.middle * mesh.data * mesh.fsdp * mesh.tensor / workload.tokens


def best_candidates(chip: Tpu | Gpu, candidates: Iterable[Candidate], count: int) -> list[Candidate]:
    """Candidates that should fit in memory and be about as quick as the quickest, far from each other.

    They are spread evenly over fsdp, since arithmetic hardly tells one size of it from another; and since it is rough
    about tensor too, the last one has another size of that, the second best. Where nothing fits, those that need least.

    Args:
        chip: kind of the chips.
        candidates: what there is to choose from.
        count: how many are given at most.
    """
    estimated = [_Estimated(one, estimate(chip, one.workload, one.mesh)) for one in candidates]
    fitting = [one for one in estimated if one.estimate.total <= chip.hbm_bytes]
    if not fitting:
        return [one.candidate for one in sorted(estimated, key=lambda one: one.estimate.total)[:count]]
    ranked = sorted(fitting, key=lambda one: one.chip_seconds_per_token)
    best, *second = dict.fromkeys(one.candidate.mesh.tensor for one in ranked)
    reserved = min(len(second), 1) if count > 1 else 0
    chosen = _spread([one for one in ranked if one.candidate.mesh.tensor == best], count - reserved)
    return chosen + _spread([one for one in ranked if one.candidate.mesh.tensor in second[:1]], reserved)


def _spread(ranked: Sequence[_Estimated], count: int) -> list[Candidate]:
    """So many of those about as good as the first, in even steps along fsdp."""
    if count == 0:
        return []
    limit = ABOUT_AS_GOOD * ranked[0].chip_seconds_per_token
    close = [one.candidate for one in ranked if one.chip_seconds_per_token <= limit]
    ordered = sorted(close, key=lambda one: one.mesh.fsdp, reverse=True)
    number = min(count, len(ordered))
    return [ordered[int((place + 0.5) * len(ordered) / number)] for place in range(number)]
