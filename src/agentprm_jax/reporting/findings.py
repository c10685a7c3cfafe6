"""From measurements to findings: the results table with its controls, curves, paired comparisons and bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Float

from agentprm_jax.data.trajectory import Trajectory
from agentprm_jax.numerics.best_of_n import best_of_n_curve
from agentprm_jax.reporting.controls import CONTROLS
from agentprm_jax.reporting.evaluation import Evaluation, by_method, ensemble
from agentprm_jax.reporting.formatting import describe_comparison
from agentprm_jax.reporting.methods import ensemble_name
from agentprm_jax.reporting.paths import choose_examples
from agentprm_jax.reporting.pool import Pool
from agentprm_jax.reporting.prm_training import describe_form
from agentprm_jax.reporting.provenance import join_origins
from agentprm_jax.reporting.results import Column, Comparison, Cost, Curve, PrmTraining, Row, RowKind, Stage, Table
from agentprm_jax.reporting.statistics import estimate, paired_bootstrap
from agentprm_jax.reporting.value_metrics import AUC_COLUMNS, ValueMetrics, reference_errors, same_actions_estimate
from agentprm_jax.scoring.base import StepScores

SEARCH_TABLE, VALUE_TABLE = "Search", "Value metrics"
AGENTPRM = ("agentprm", "agentprm_delta_q")
"""AgentPRM in the forms of L_A; the first that was measured is held against all else."""
METHODS = (*AGENTPRM, "agentprm_no_la", "pvm", "orm")
RANDOM_BEAMS = ("random_beam", "random_beam_finished_first")
UNTRAINED = "greedy_before_sft"
ENSEMBLE_CAPTION = " Mean of seeds: the promise is the mean over a method's PRMs, all of which read the samples."


@dataclass(frozen=True)
class Measurements:
    """All that was measured on the test tasks.

    Attributes:
        pool: samples of the actor.
        sizes: numbers of samples N of Best-of-N.
        beams: sizes of beam search, such as "2x2".
        beam_temperature: of the candidates in beam search.
        evaluations: of every method and seed, and of the beams with random scores.
        greedy: outcome of greedy decoding on each task.
        expert: outcome of the scripted expert on each task.
        reference: (number of actions, outcome) of the PRMs' training trajectories.
        untrained: outcome on each task of greedy decoding before SFT; None where the actor was never anything else.
        played: what a task cost greedy decoding, that before SFT and the expert, by row, where it is known.
    """

    pool: Pool
    sizes: tuple[int, ...]
    beams: tuple[str, ...]
    beam_temperature: float
    evaluations: tuple[Evaluation, ...]
    greedy: Float[np.ndarray, " task"]
    expert: Float[np.ndarray, " task"]
    reference: Sequence[tuple[int, float]]
    untrained: Float[np.ndarray, " task"] | None = None
    played: Mapping[str, Cost] = field(default_factory=dict)


class Findings:
    """Outcomes [seed, task] of every row and column of the results table, and what follows from them."""

    def __init__(self, measured: Measurements):
        """Evaluates Best-of-N in closed form for every scorer and control, and lays beams beside it."""
        self.measured = measured
        self.groups = by_method(measured.evaluations)
        self.methods = [name for name in METHODS if name in self.groups]
        self.methods += [name for name in self.groups if name not in (*METHODS, *RANDOM_BEAMS)]
        self.ensembles = [one.method for one in self._form_ensembles()]
        self.subject = next((name for name in AGENTPRM if name in self.groups), AGENTPRM[0])
        self.columns = [f"bon_{n}" for n in measured.sizes] + [f"beam_{size}" for size in measured.beams]
        self._cells: dict[tuple[str, str], Float[np.ndarray, "seed task"]] = {}
        self._fill_best_of_n()
        self._fill_beams()
        for column in self.columns:
            self._cells["greedy", column] = measured.greedy[None]
            self._cells["expert", column] = measured.expert[None]
            if measured.untrained is not None:
                self._cells[UNTRAINED, column] = measured.untrained[None]
            self._cells["random", column] = measured.pool.outcomes.mean(axis=1)[None]

    def outcomes(self, method: str, column: str) -> Float[np.ndarray, "seed task"]:
        """Outcome on each task of one row in one column; KeyError where it was not measured."""
        return self._cells[method, column]

    def has(self, method: str, column: str) -> bool:
        """Whether the cell was measured."""
        return (method, column) in self._cells

    @property
    def controls(self) -> list[str]:
        """Rows that use no value function, in the order of the table."""
        untrained = [] if self.measured.untrained is None else [UNTRAINED]
        return ["greedy", *untrained, *CONTROLS, *(name for name in RANDOM_BEAMS if name in self.groups)]

    @property
    def scorers(self) -> list[str]:
        """Rows that judge by promises: the methods, and below them the means over each one's seeds."""
        return [*self.methods, *self.ensembles]

    def search_table(self) -> Table:
        """Mean outcome of what each method chooses, Best-of-N and beams side by side, controls and bounds below."""
        kinds: dict[str, RowKind] = {name: "method" for name in self.scorers}
        kinds |= {name: "control" for name in self.controls}
        kinds |= {"oracle": "bound", "expert": "bound"}
        return Table(
            name=SEARCH_TABLE,
            caption=(
                f"Mean outcome on {len(self.measured.pool.tasks)} held-out tasks. BoN@N: unbiased estimate over all "
                f"subsets of {self.measured.pool.shape[1]} samples; beam @NxM: N nodes, M candidates each at "
                f"temperature {self.measured.beam_temperature:g}.{ENSEMBLE_CAPTION if self.ensembles else ''}"
            ),
            columns=tuple(_search_column(key) for key in self.columns),
            rows=tuple(self._row(name, kind) for name, kind in kinds.items()),
        )

    def value_table(self) -> Table:
        """Value metrics of every method, with the predictors that know no text as controls."""
        errors = reference_errors(self.measured.pool, self.measured.reference)
        references = [
            Row(method=name, kind="control", estimates={"mse": errors[key], "brier": errors[key]})
            for name, key in (("constant predictor", "constant"), ("step-index predictor", "step_index"))
        ]
        columns = [
            *AUC_COLUMNS,
            Column(key="mse", title="MSE", meaning="Squared error of the promise of every step.", better="lower"),
            Column(key="brier", title="Brier", meaning="The same with promises clipped to [0, 1].", better="lower"),
            Column(key="brier_last", title="Brier last", meaning="Brier score of the last step.", better="lower"),
        ]
        return Table(
            name=VALUE_TABLE,
            caption=(
                f"On {self.measured.pool.shape[1]} samples of each of {self.measured.pool.shape[0]} held-out tasks. "
                "There is no AUC where too few tasks have samples that differ in outcome."
            ),
            columns=tuple(columns),
            rows=(
                *(self._value_row(name, self.metrics(name), note=self._form(name)) for name in self.scorers),
                *references,
                *self._bounds(),
            ),
        )

    def metrics(self, method: str) -> ValueMetrics:
        """Value metrics of all seeds of a method."""
        return ValueMetrics(self.measured.pool, [e.promise_rows for e in self.groups[method]])

    @cached_property
    def same_actions(self) -> ValueMetrics | None:
        """Value metrics of what other samples of the same tasks tell; None where there is one sample of each only."""
        pool = self.measured.pool
        return ValueMetrics(pool, [same_actions_estimate(pool)]) if pool.shape[1] > 1 else None

    def curves(self) -> tuple[Curve, ...]:
        """Best-of-N over N for every method, control and the oracle."""
        kinds: dict[str, RowKind] = {name: "method" for name in self.methods}
        kinds |= {name: "control" for name in CONTROLS if name != "random"}
        kinds["oracle"] = "bound"
        return tuple(self._curve(name, kind) for name, kind in kinds.items()) + tuple(
            Curve(method=name, kind="control", sizes=(1,), estimates=(estimate(self._cells[name, self.columns[0]]),))
            for name in ("greedy", "random")
        )

    def compare(self, a: str, b: str, columns: Sequence[str], title: str) -> Comparison | None:
        """Paired bootstrap of `a` minus `b` on the mean over `columns`; None where one of them was not measured.

        The seeds of a control are not those of PRMs, and a mean over seeds has none: what is held against them is the
        mean over the other's.
        """
        if not columns or not all(self.has(a, column) and self.has(b, column) for column in columns):
            return None
        left = np.mean([self.outcomes(a, column) for column in columns], axis=0)
        right = np.mean([self.outcomes(b, column) for column in columns], axis=0)
        right = right.mean(axis=0) if b in self.controls or a in self.ensembles else right
        return Comparison(metric=title, a=a, b=b, difference=paired_bootstrap(left, right, seed=0))

    def comparisons(self) -> tuple[Comparison, ...]:
        """AgentPRM against every other method, greedy and the best control: at each column, and on the mean over beams.

        Last comes the mean over its seeds against each of the seeds, and against those of the other methods.

        The best control is chosen on the very tasks of the comparison, which favours it.
        """
        beams = [column for column in self.columns if column.startswith("beam_")]
        columns = [([column], _search_column(column).title) for column in self.columns if column != "bon_1"]
        columns += [(beams, "mean over beams")] if len(beams) > 1 else []
        others = [name for name in (*self.methods, "greedy") if name != self.subject]
        pairs = [(other, keys, title) for other in others for keys, title in columns]
        pairs += [
            (best, *column) for column in columns if (best := self.best_control(column[0])) not in (None, "greedy")
        ]
        found = [self.compare(self.subject, other, keys, title) for other, keys, title in pairs]
        together = ensemble_name(self.subject, self._seeds(self.subject))
        others = [self.subject, *(name for name in self.ensembles if name != together)]
        if together in self.ensembles:
            found += [self.compare(together, other, keys, title) for other in others for keys, title in columns]
        return tuple(comparison for comparison in found if comparison is not None)

    def best_control(self, columns: Sequence[str]) -> str | None:
        """The control with the highest mean over all of some columns; None where none has them all."""
        able = [name for name in self.controls if all(self.has(name, column) for column in columns)]
        return max(able, key=lambda name: np.mean([self.outcomes(name, c).mean() for c in columns]), default=None)

    def scored_pool(self) -> list[Trajectory]:
        """The pool's trajectories with the scores of the first PRM of every method."""
        trajectories = self.measured.pool.flat
        for name in self.methods:
            first = self.groups[name][0]
            trajectories = [
                t.with_scores(name, *StepScores.from_promise(promise, first.initial_value or 0.0))
                for t, promise in zip(trajectories, first.promises, strict=True)
            ]
        return trajectories

    def examples(self) -> list[Trajectory]:
        """Randomly drawn successes and failures, scored, for a viewer."""
        return choose_examples(self.scored_pool())

    def stage(self) -> Stage:
        """What the measurements cost."""
        evaluations = self.measured.evaluations
        searches = [search for e in evaluations for search in e.beams.values()]
        scored = sum(e.pool_tokens for e in evaluations)
        scored += sum(round(search.scored_tokens * len(search.outcomes)) for search in searches)
        return Stage(
            name="evaluate",
            minutes=sum(e.minutes for e in evaluations),
            tokens_sampled=sum(sum(search.sampled_tokens) for search in searches),
            tokens_scored=scored,
            environment_steps=sum(sum(search.environment_steps) for search in searches),
            **join_origins(evaluations),
        )

    def trainings(self) -> tuple[PrmTraining, ...]:
        """How every PRM was trained, method by method, as far as it is known."""
        known = (e.training for name in self.methods for e in self.groups[name])
        return tuple(training for training in known if training is not None)

    def headline(self) -> str:
        """One paragraph that claims what the intervals allow."""
        beams = [column for column in self.columns if column.startswith("beam_")]
        found = [self.compare(self.subject, other, ["bon_8"], "BoN@8") for other in ("greedy", "orm", "pvm")]
        found += [self.compare(self.subject, other, beams, "mean over beams") for other in ("orm", "pvm")]
        return " ".join(describe_comparison(comparison) for comparison in found if comparison is not None)

    def _seeds(self, method: str) -> int:
        return len(self.groups.get(method, []))

    def _form_ensembles(self) -> list[Evaluation]:
        """Adds to the groups the mean over the seeds of every method that has several."""
        several = [self.groups[name] for name in self.methods if self._seeds(name) > 1]
        found = [ensemble(group) for group in several if all(one.promises for one in group)]
        self.groups |= {one.method: [one] for one in found}
        return found

    def _fill_best_of_n(self) -> None:
        pool, sizes = self.measured.pool, self.measured.sizes
        scores = {name: [control(pool)] for name, control in CONTROLS.items()}
        scores["oracle"] = [pool.outcomes]
        for name in self.scorers:
            scores[name] = [pool.table([row[-1] for row in e.promises]) for e in self.groups[name] if e.promises]
        for name, tables in scores.items():
            if not tables:
                continue
            curves = np.stack([best_of_n_curve(table, pool.outcomes, sizes) for table in tables])
            for index, size in enumerate(sizes):
                self._cells[name, f"bon_{size}"] = curves[:, :, index]

    def _fill_beams(self) -> None:
        for name, evaluations in self.groups.items():
            for size in self.measured.beams:
                rows = [e.beams[size].outcomes for e in evaluations if size in e.beams]
                if rows:
                    self._cells[name, f"beam_{size}"] = np.asarray(rows, np.float64)

    def _row(self, name: str, kind: RowKind) -> Row:
        columns = [column for column in self.columns if self.has(name, column)]
        costs = {column: self._cost(name, column) for column in columns}
        return Row(
            method=name,
            kind=kind,
            estimates={column: estimate(self._cells[name, column]) for column in columns},
            costs={column: cost for column, cost in costs.items() if cost is not None},
            note=self._form(name),
        )

    def _form(self, name: str) -> str:
        return describe_form(self.groups[name][0].training) if name in self.methods else ""

    def _cost(self, name: str, column: str) -> Cost | None:
        if name in ("greedy", UNTRAINED, "expert"):
            return self.measured.played.get(name)
        if name == "random":
            return self.measured.pool.cost(1)
        if column.startswith("beam_"):
            searches = [e.beams[column.removeprefix("beam_")] for e in self.groups[name]]
            return Cost(
                tokens_sampled=float(np.mean([s.sampled_tokens for s in searches])),
                tokens_scored=float(np.mean([s.scored_tokens for s in searches])),
                tokens_kept=float(np.mean([s.kept_tokens for s in searches])),
                environment_steps=float(np.mean([s.environment_steps for s in searches])),
            )
        scorers, pool = self.groups.get(name, []), self.measured.pool
        read = float(np.mean([e.pool_tokens for e in scorers])) / len(pool.flat) if scorers else 0.0
        return pool.cost(int(column.removeprefix("bon_")), read)

    def _curve(self, name: str, kind: RowKind) -> Curve:
        sizes = self.measured.sizes
        tokens = float(self.measured.pool.sampled_tokens.mean())
        return Curve(
            method=name,
            kind=kind,
            sizes=sizes,
            estimates=tuple(estimate(self._cells[name, f"bon_{size}"]) for size in sizes),
            tokens_sampled=tuple(size * tokens for size in sizes) if tokens else None,
        )

    def _bounds(self) -> list[Row]:
        if self.same_actions is None:
            return []
        note = "mean outcome of other samples of the same test task that took the same actions so far, cross-fitted"
        return [self._value_row("other samples, same actions", self.same_actions, kind="bound", note=note)]

    def _value_row(self, name: str, metrics: ValueMetrics, kind: RowKind = "method", note: str = "") -> Row:
        found = {
            "mse": metrics.mse(),
            "brier": metrics.brier(),
            "brier_last": metrics.last_step_brier(),
        }
        return Row(method=name, kind=kind, note=note, estimates=metrics.aucs() | found)


def _search_column(key: str) -> Column:
    kind, size = key.split("_")
    if kind == "bon":
        return Column(key=key, title=f"BoN@{size}", meaning=f"Best of {size} samples by the score of the last step.")
    return Column(key=key, title=f"beam @{size}", meaning=f"Step-level beam search @{size}.")
