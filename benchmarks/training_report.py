"""The figures of the benchmark of throughput as text, and held against the goals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from goals import Goal, grid, ratio_goal, show_ratio
from measuring import Timing, paired_ratio, processor_ratio

from agentprm_jax.reporting.formatting import MISSING
from agentprm_jax.reporting.provenance import describe_machine, package_versions

if TYPE_CHECKING:
    from compiling import Compiled
    from throughput_ours import Rows
    from workloads import Workload

NAME, OURS = "training", "ours"
GOALS = {
    "training": ("training against padded batches", 3.0),
    "scoring": ("scoring against padded batches", 3.0),
    "prefixes": ("scoring 15 steps against scoring every prefix", 8.0),
}
"""What is compared, and how many times as fast as the quickest of theirs that does not sort ours should be."""
NO_TORCH = "torch is not installed (dependency group `torch`)"
PACKAGES = ("agentprm-jax", "jax", "flax", "torch", "transformers")
Parts = Mapping[str, Mapping[str, Timing]]
"""Timings by side and by how much of an update is done: `forward`, `forward and backward`, `update`."""


class Comparison(NamedTuple):
    """What was measured of one kind of work.

    Attributes:
        kind: key of GOALS.
        tokens: real ones that a call is about.
        timings: of ours, of the quickest of theirs that does not sort, and of the quickest that does.
        left: seconds of the ways of theirs that were slower.
        padding: share of padding of those where it is known.
    """

    kind: str
    tokens: int
    timings: Mapping[str, Timing]
    left: Mapping[str, float]
    padding: Mapping[str, float]


def goal_of(workload: Workload, comparison: Comparison) -> Goal:
    """Ours against the quickest of theirs that does not sort."""
    what, limit = GOALS[comparison.kind]
    name = f"{workload.name}, {what}"
    ours, *theirs = comparison.timings.values()
    return ratio_goal(NAME, name, "at least", limit, paired_ratio(theirs[0], ours) if theirs else NO_TORCH)


def introduction(workload: Workload, rows: Rows, training: Compiled, scoring: Compiled) -> str:
    """What both sides work on, and what compiling ours took."""
    every, long = (workload.encoded(part) for part in (workload.trajectories, workload.long))
    c = workload.decoder
    return "\n".join(
        [
            f"### {workload.name}",
            "",
            f"{workload.parameters / 1e6:.3g} million parameters: {c.layers} layers, embed {c.embed}, mlp {c.mlp}, "
            f"{c.heads} heads on {c.kv_heads}, {c.vocab_size:,} tokens.",
            "",
            f"* {len(every)} trajectories, tokens: {spread([len(one.tokens) for one in every])}; "
            f"steps: {spread([len(one.readouts) for one in every])}. {workload.config.together} make an update.",
            f"* {len(long)} trajectories of {len(long[0].readouts)} steps: {spread([len(one.tokens) for one in long])} "
            f"tokens; all prefixes together {sum(int(np.sum(one.readouts + 1)) for one in long):,}, "
            f"{sum(int(np.sum(one.readouts + 1)) for one in long) / sum(len(one.tokens) for one in long):.1f} times.",
            f"* Ours: rows of {rows.length} tokens, {rows.together} an update, {rows.updates} updates.",
            f"* Training compiled {training.programs} programs in {training.seconds:.1f} s, scoring "
            f"{scoring.programs} in {scoring.seconds:.1f} s; theirs compiles nothing.",
        ]
    )


def spread(numbers: list[int]) -> str:
    """`mean 87, quartiles 62, 79, 101, most 313`."""
    low, middle, high = np.quantile(numbers, [0.25, 0.5, 0.75])
    return f"mean {np.mean(numbers):.1f}, quartiles {low:.0f}, {middle:.0f}, {high:.0f}, most {max(numbers)}"


def comparison_table(comparison: Comparison) -> str:
    """Real tokens a second of every way, and how many times as long as ours it takes."""
    what, limit = GOALS[comparison.kind]
    header = ("", "tokens/s", "quickest", "padding", "first call", "of ours", "of ours, processor")
    ours = comparison.timings[OURS]
    rows = [
        (
            name,
            f"{comparison.tokens / timing.median:,.0f}",
            f"{comparison.tokens / timing.quickest:,.0f}",
            _share(comparison.padding.get(name)),
            f"{timing.first:.1f} s",
            show_ratio(paired_ratio(timing, ours)),
            show_ratio(processor_ratio(timing, ours)),
        )
        for name, timing in comparison.timings.items()
    ]
    rows += [(name, f"{comparison.tokens / seconds:,.0f}", *[MISSING] * 5) for name, seconds in comparison.left.items()]
    return f"**{what.capitalize()}**, goal {limit:g}:\n\n{grid(header, rows)}"


def parts_table(parts: Parts) -> str:
    """Seconds of the parts of an epoch, by subtraction."""
    rows = []
    for name, timings in parts.items():
        forward, both, whole = (timings[part].median for part in ("forward", "forward and backward", "update"))
        shares = (forward, both - forward, whole - both)
        rows.append((name, f"{whole:.2f} s", *(f"{part:.2f} s ({part / whole:.0%})" for part in shares)))
    header = ("", "an epoch", "forward", "backward", "clipping and AdamW")
    return f"**Where the time goes**, by leaving out the later parts:\n\n{grid(header, rows)}"


def describe() -> str:
    """Machine and versions."""
    versions = package_versions(PACKAGES)
    return f"{describe_machine()}; " + ", ".join(f"{name} {version}" for name, version in versions.items()) + "."


def _share(share: float | None) -> str:
    return MISSING if share is None else f"{share:.0%}"
