"""Plans of steps on accelerators: as text for the terminal, and as tables of a page."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import rich.console

    from agentprm_jax.training.planning.plan import Plan

    _Slices = dict[tuple[str, int], list[Plan]]

GIB = 2**30
BEGIN, END = "<!-- begin of the table -->", "<!-- end of the table -->"
HEADER = (
    *("model", "chips", "mesh (data, fsdp, tensor)", "GiB on a chip", "least time of a step, s", "nothing hidden, s"),
    *("tokens/s at best", "utilisation at most", "limited by"),
    *("time for a token against 32 chips", "nothing hidden"),
)
COMPARED = 32
"""Chips against whose time for a token, in their best mesh, that of the other slices of the same kind is set."""

_COMPARISON = (2, 3, 4, 5, 7, 8)
"""Columns of the table in which meshes of one slice differ."""


def describe(plans: Sequence[Plan]) -> rich.console.Group:
    """Everything about the first plan, and how the others compare to it."""
    from rich.console import Group
    from rich.table import Table

    best = plans[0]
    details = Table.grid(padding=(0, 2))
    for name, value in _details(best):
        details.add_row(name, value)
    parts: list[rich.console.RenderableType] = [details]
    if best.costs is not None:
        parts += ["", _exchanges(best)]
    if len(plans) > 1:
        compared = Table(*(HEADER[column] for column in _COMPARISON))
        for plan in plans:
            cells = _row("", plan, {})
            compared.add_row(*(cells[column] for column in _COMPARISON))
        parts += ["", compared, f"Suggested: mesh {_mesh(best)}." if best.fits else "None of these fits in memory."]
    return Group(*parts)


def with_tables(
    page: str, training: Mapping[str, Sequence[Plan]], scoring: Mapping[str, Sequence[Plan]], goal_model: str
) -> str:
    """The page with what stands between its two marks made anew: plans of training, goals met or missed, and scoring.

    Args:
        page: the page's text.
        training: the plans of each model's training.
        scoring: those of its scoring.
        goal_model: the model for whose training the goals are set.

    Raises:
        ValueError: the page does not have each mark once, in order.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise ValueError(f"The page should hold the marks {BEGIN} and {END} once each, in this order.")
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    goals = [_line(row) for row in [("goal", "found", ""), ("---",) * 3, *_goals(training[goal_model])]]
    about = "Scoring, a forward pass of one such row for every chip with parameters in bfloat16 too:"
    lines = [*_table(training), "", *goals, "", about, "", *_table(scoring)]
    return f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{after}"


def _table(plans: Mapping[str, Sequence[Plan]]) -> list[str]:
    lines = [_line(HEADER), _line(["---"] * len(HEADER))]
    for name, group in plans.items():
        best = _best_first_by_slice(group)
        lines += [_line(_row(name, plan, best)) for plan in itertools.chain(*best.values())]
    return lines


def _best_first_by_slice(group: Sequence[Plan]) -> _Slices:
    """The plans of each kind and number of chips, in the order in which these come first, the best mesh in front."""
    from agentprm_jax.training.planning.plan import best_first

    by_slice: dict[tuple[str, int], list[Plan]] = {}
    for plan in group:
        by_slice.setdefault((plan.chip.name, plan.chips), []).append(plan)
    return {place: best_first(plans) for place, plans in by_slice.items()}


def _goals(group: Sequence[Plan]) -> list[tuple[str, str, str]]:
    """Each goal with what was found in the best mesh of its slice, and whether that meets it."""
    best = {place: plans[0] for place, plans in _best_first_by_slice(group).items()}
    small, unit, large = (best[place] for place in (("v5e", 32), ("v5p", 32), ("v5p", 1024)))
    growth, unhidden = (ratio - 1 for ratio in cost_ratios(large, unit))
    cost = "a token costs less than 10 % more on 1,024 chips than on 32 (v5p)"
    found = [
        ("fits 32 chips of v5e", f"{_gib(small.memory.total)} of {_gib(small.chip.hbm_bytes)} GiB", small.fits),
        ("utilisation at most above 50 % there", _utilisation(small), small.utilisation > 0.5),
        (cost, f"{100 * growth:+.1f} %", growth < 0.1),
        ("the same if nothing is hidden", f"{100 * unhidden:+.1f} %", unhidden < 0.1),
    ]
    return [(goal, figure, "met" if met else "missed") for goal, figure, met in found]


def cost_ratios(plan: Plan, unit: Plan) -> tuple[float, float]:
    """Time of a token against that in another plan: at best, and with nothing hidden."""
    return (
        plan.chip_seconds_per_token / unit.chip_seconds_per_token,
        plan.unhidden_chip_seconds_per_token / unit.unhidden_chip_seconds_per_token,
    )


def _row(name: str, plan: Plan, slices: _Slices) -> list[str]:
    unit = slices.get((plan.chip.name, COMPARED), [plan])[0]
    both = plan.fits and unit.fits and (plan.chip.name, COMPARED) in slices
    ratios = [f"{ratio:.2f}" for ratio in cost_ratios(plan, unit)] if both else ["", ""]
    unhidden = f"{plan.roofline.unhidden:.3f}" if plan.roofline is not None and plan.fits else ""
    speed = "" if not plan.fits else f"{plan.chips / plan.chip_seconds_per_token:,.0f}"
    return [
        *(name, f"{plan.chips:,} {plan.chip.name}", _mesh(plan), _gib(plan.memory.total), _step(plan), unhidden),
        *(speed, _utilisation(plan), _limit(plan), *ratios),
    ]


def _details(plan: Plan) -> list[tuple[str, str]]:
    from agentprm_jax.training.planning.work import checkpoint_bytes

    memory, work = plan.memory, plan.workload
    room = _gib(memory.available or plan.chip.hbm_bytes)
    lines = [
        (
            "step",
            f"{work.step}, {work.rows} rows of {work.length:,} tokens, {work.model.dtype}, remat {work.model.remat}",
        ),
        *([("adapters", f"rank {work.lora.rank}, base {work.lora.base_dtype}")] if work.lora.rank else []),
        ("chips", f"{plan.chips} {plan.chip.name}, mesh {_mesh(plan)}"),
        ("memory on a chip", f"{_gib(memory.total)} of {room} GiB" + ("" if plan.fits else ": does not fit")),
        ("  arguments", f"{_gib(memory.arguments)} GiB"),
        ("  outputs", f"{_gib(memory.outputs)} GiB"),
        ("  temporaries", f"{_gib(memory.temporaries)} GiB"),
    ]
    if work.trains:
        whole = checkpoint_bytes(work)
        parts = plan.mesh.fsdp * plan.mesh.tensor
        lines.append(("a checkpoint", f"{whole / 1e9:,.1f} GB, {whole / parts / 1e9:,.2f} GB from a chip"))
    if plan.costs is not None:
        received = sum(collective.received for collective in plan.costs.collectives)
        lines += [
            ("operations of a chip", f"{plan.costs.flops / 1e12:,.1f} T"),
            ("traffic of main memory", f"{plan.costs.memory_bytes / 1e9:,.1f} GB"),
            ("received from other chips", f"{received / 1e9:,.2f} GB"),
        ]
    if plan.roofline is not None:
        roof = plan.roofline
        lines += [
            ("least time of a step", f"{roof.seconds:.3f} s, limited by {roof.limit}"),
            ("", f"compute {roof.compute:.3f} s, memory {roof.memory:.3f} s, exchange {roof.exchange:.3f} s"),
            ("with nothing hidden", f"{roof.unhidden:.3f} s"),
            ("operations of the model", f"{work.model_flops / plan.chips / 1e12:,.1f} T a chip"),
            ("utilisation at most", _utilisation(plan)),
        ]
    return lines


def _exchanges(plan: Plan) -> rich.console.RenderableType:
    from rich.table import Table

    assert plan.costs is not None, "Only a compiled program has exchanges to show."
    times, received = Counter[tuple[str, int]](), Counter[tuple[str, int]]()
    for collective in plan.costs.collectives:
        key = (collective.kind, len(collective.group))
        times[key] += collective.times
        received[key] += round(collective.received)
    table = Table("exchange", "chips in a group", "times", "GB received by a chip")
    for (kind, size), total in received.most_common():
        table.add_row(kind, str(size), f"{times[kind, size]:,}", f"{total / 1e9:,.3f}")
    return table


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _mesh(plan: Plan) -> str:
    return ", ".join(map(str, plan.mesh.shape))


def _gib(size: float) -> str:
    return f"{size / GIB:.1f}"


def _step(plan: Plan) -> str:
    return "does not fit" if plan.roofline is None or not plan.fits else f"{plan.roofline.seconds:.3f}"


def _limit(plan: Plan) -> str:
    return "" if plan.roofline is None or not plan.fits else plan.roofline.limit


def _utilisation(plan: Plan) -> str:
    return f"{100 * plan.utilisation:.0f} %" if plan.fits else ""
