"""Which pictures a report has, in their order, with their titles and captions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from agentprm_jax.reporting import plots
from agentprm_jax.reporting.findings import SEARCH_TABLE, Findings
from agentprm_jax.reporting.results import Curve, Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TRAINING_METRICS = {"loss": "loss", "mean_promise": "mean promise", "grad_norm": "gradient norm"}


class Drawing(NamedTuple):
    """A figure, the name of its file, and what is said about it on the page."""

    name: str
    title: str
    caption: str
    figure: Figure


def draw_all(
    findings: Findings, results: Results, runs: Mapping[str, Sequence[Mapping[str, Any]]]
) -> Iterator[Drawing]:
    """Draws all pictures.

    Args:
        findings: what was found.
        results: the record made of it.
        runs: rows of `metrics.jsonl` of the first PRM of each method that was trained here.
    """
    yield from _outcomes(findings, results)
    yield from _promises(findings)
    if runs:
        yield Drawing("training", "Training", "PRMs of the first seed.", plots.training_curves(runs, TRAINING_METRICS))
    if results.comparisons:
        yield Drawing(
            "comparisons",
            "AgentPRM against the other methods",
            "95 % intervals of the paired bootstrap.",
            plots.comparison_intervals(results.comparisons),
        )


def _outcomes(findings: Findings, results: Results) -> Iterator[Drawing]:
    """What the chosen trajectories are worth, over samples and over tokens."""
    search = results.table(SEARCH_TABLE)
    beams = {size: f"beam_{size}" for size in findings.measured.beams}
    yield Drawing("best_of_n", "Best-of-N", "Bands: one standard error.", plots.best_of_n_curves(results.curves))
    if any(curve.tokens_sampled for curve in results.curves):
        yield Drawing(
            "best_of_n_tokens",
            "Best-of-N and beam search at equal sampled tokens",
            "Lines: Best-of-N. Hollow marks: beam search of the size beside them. Bands and bars: one standard error. "
            "Of the controls greedy and the best one.",
            plots.best_of_n_curves(
                _methods_and_best_control(findings, results), over="tokens", beams=plots.beam_points(search, beams)
            ),
        )
    yield Drawing("beam", "Beam search", "Bars: one standard error.", plots.beam_bars(search, list(beams.values())))


def _methods_and_best_control(findings: Findings, results: Results) -> list[Curve]:
    best = findings.best_control([f"bon_{findings.measured.sizes[-1]}"])
    return [curve for curve in results.curves if curve.method in (*findings.methods, "greedy", best)]


def _promises(findings: Findings) -> Iterator[Drawing]:
    """What the promises are worth."""
    yield Drawing(
        "promise_paths",
        "Promise along successful and failed trajectories",
        "PRMs of the first seed; bands: one standard error over trajectories.",
        plots.promise_paths(findings.scored_pool()),
    )
    yield Drawing(
        "calibration",
        "Calibration of the promises",
        "All steps and seeds.",
        plots.calibration({name: findings.metrics(name).reliability() for name in findings.methods}),
    )
