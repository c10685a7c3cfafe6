"""Bars set before the run: whether the setting is honest, whether the value function works, whether it helps."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from agentprm_jax.reporting.controls import LENGTH_CONTROLS
from agentprm_jax.reporting.findings import Findings
from agentprm_jax.reporting.methods import method_label
from agentprm_jax.reporting.results import Check, Difference, Estimate
from agentprm_jax.reporting.statistics import paired_bootstrap
from agentprm_jax.reporting.value_metrics import ValueMetrics

LEAK_TOLERANCE = 0.05
AUC_AT_STEP_3, AUC_NOT_FINISH = 0.75, 0.60
STANDARD_ERRORS = 2.0
AT = "bon_8"


def quickstart_bars(findings: Findings) -> tuple[Check, ...]:
    """All bars in the order of the argument: no leak, a value function above chance, a gain in both searches."""
    return (*_no_leak(findings), *_ranking(findings), *_best_of_n(findings), *_beam(findings))


def _no_leak(findings: Findings) -> Iterator[Check]:
    gains = {
        (name, column): float(np.mean(findings.outcomes(name, column)) - np.mean(findings.outcomes("random", column)))
        for name in LENGTH_CONTROLS
        for column in findings.columns
        if column.startswith("bon_")
    }
    (name, column), gain = max(gains.items(), key=lambda item: item[1])
    yield Check(
        name=f"No length control beats a random choice by more than {LEAK_TOLERANCE:.2f}",
        passed=gain <= LEAK_TOLERANCE,
        detail=f"the largest gain is {gain:+.3f} ({method_label(name)}, {column.replace('bon_', 'N = ')})",
    )


def _ranking(findings: Findings) -> Iterator[Check]:
    for title, bar, figure in (
        ("AUC within a task at step 3", AUC_AT_STEP_3, lambda m: m.step_auc(2)),
        (
            "AUC within a task, pooled over steps that are not finish",
            AUC_NOT_FINISH,
            lambda m: m.mean_auc(finish=False),
        ),
    ):
        name = f"{title}: the best PRM has at least {bar:.2f}"
        estimates = {method: figure(findings.metrics(method)) for method in findings.methods}
        found = {method: estimate for method, estimate in estimates.items() if estimate is not None}
        if not found:
            yield Check(name=name, passed=False, detail="too few tasks have samples that differ in outcome")
            continue
        best = max(found, key=lambda method: found[method].value)
        detail = f"{_named(best, found[best])}{_together(findings, figure)}{_reachable(findings, figure)}"
        yield Check(name=name, passed=found[best].value >= bar, detail=detail)


def _named(method: str, estimate: Estimate) -> str:
    return f"{_with_stderr(estimate)} ({method_label(method)})"


def _together(findings: Findings, figure: Callable[[ValueMetrics], Estimate | None]) -> str:
    """What the best mean over seeds gives; the bar is about one PRM."""
    found = {name: figure(findings.metrics(name)) for name in findings.ensembles}
    best = max(((one.value, name, one) for name, one in found.items() if one is not None), default=None)
    return "" if best is None else f"; together {_named(*best[1:])}"


def _reachable(findings: Findings, figure: Callable[[ValueMetrics], Estimate | None]) -> str:
    """What can be expected at all, beside what was reached."""
    given = None if findings.same_actions is None else figure(findings.same_actions)
    if given is None:
        return ""
    return f"; other samples of the same tasks that took the same actions give {_with_stderr(given)}"


def _with_stderr(estimate: Estimate) -> str:
    """The figure and its standard error over tasks."""
    return f"{estimate.value:.3f}" + ("" if estimate.stderr_tasks is None else f" ± {estimate.stderr_tasks:.3f}")


def _best_of_n(findings: Findings) -> Iterator[Check]:
    able = [name for name in findings.controls if findings.has(name, AT)]
    if not findings.has(findings.subject, AT) or not able:
        yield _unmeasured(findings.subject, "every control", "BoN@8")
        return
    for control in able:
        yield _above(findings, findings.subject, control, [AT], "BoN@8")


def _beam(findings: Findings) -> Iterator[Check]:
    beams = [column for column in findings.columns if column.startswith("beam_")]
    if beams and all(findings.has(name, column) for name in (findings.subject, "orm") for column in beams):
        yield _above(findings, findings.subject, "orm", beams, "the mean over beams")
    else:
        yield _unmeasured(findings.subject, "orm", "the mean over beams")


def _above(findings: Findings, a: str, b: str, columns: list[str], where: str) -> Check:
    left = np.mean([findings.outcomes(a, column) for column in columns], axis=0)
    right = np.mean([findings.outcomes(b, column) for column in columns], axis=0)
    difference = paired_bootstrap(left, right, seed=0)
    return Check(
        name=_title(a, b, where),
        passed=difference.value > STANDARD_ERRORS * difference.stderr,
        detail=_in_standard_errors(difference),
    )


def _unmeasured(a: str, b: str, where: str) -> Check:
    """A bar that nothing was measured for counts as missed."""
    return Check(name=_title(a, b, where), passed=False, detail="this evaluation measured one of them or neither")


def _title(a: str, b: str, where: str) -> str:
    return f"{method_label(a)} above {method_label(b)} at {where} by more than {STANDARD_ERRORS:.0f} standard errors"


def _in_standard_errors(difference: Difference) -> str:
    ratio = difference.value / difference.stderr if difference.stderr else float("inf")
    return f"{difference.value:+.3f} ± {difference.stderr:.3f} ({ratio:.1f} standard errors)"
