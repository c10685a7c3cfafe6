"""What an evaluation found, as one typed record that is written to and read back from `results.json`."""

import datetime
import math
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from agentprm_jax.reporting.provenance import Origin

SCHEMA = "agentprm.results/1"

RowKind = Literal["method", "control", "bound"]
"""`method`: something under test; `control`: needs no value model; `bound`: what no choice among samples can exceed."""


class ResultsError(ValueError):
    """Results that cannot be written or read; the message names the file, the field, and what was expected there."""


class Estimate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A figure with what is needed to doubt it.

    Attributes:
        value: the mean, in the unit of its column.
        stderr_tasks: standard error over tasks of the mean over seeds; None with fewer than two tasks.
        stderr_seeds: standard error over seeds of the mean over tasks; None with one seed.
        n_tasks: number of tasks, at least 1.
        n_seeds: number of seeds (of PRM training or of sampling), at least 1.
    """

    value: float
    stderr_tasks: float | None = None
    stderr_seeds: float | None = None
    n_tasks: int
    n_seeds: int = 1

    def __post_init__(self) -> None:
        """Refuse numbers that are not finite and standard errors that cannot exist."""
        _require_finite(self, "value", "stderr_tasks", "stderr_seeds")
        _require_counts(self, "n_tasks", "n_seeds")
        for field, count in (("stderr_tasks", self.n_tasks), ("stderr_seeds", self.n_seeds)):
            stderr = getattr(self, field)
            if stderr is not None and count < 2:
                raise ValueError(
                    f"Estimate.{field} must be None when there is only {count} to vary over, got {stderr}."
                )
            if stderr is not None and stderr < 0:
                raise ValueError(f"Estimate.{field} must not be negative, got {stderr}.")

    @property
    def stderr(self) -> float | None:
        """Both standard errors combined, sqrt(tasks² + seeds²); None when neither is known.

        Counts the interaction of task and seed twice, so it errs on the wide side.
        """
        parts = [part for part in (self.stderr_tasks, self.stderr_seeds) if part is not None]
        return math.hypot(*parts) if parts else None


class Difference(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Method a minus method b on the same tasks, with its bootstrap interval.

    Attributes:
        value: mean of a minus mean of b.
        stderr: standard deviation of the resampled differences.
        low: lower end of the percentile interval.
        high: upper end.
        confidence: coverage of the interval, in (0, 1).
        probability: share of resamples in which a is above b, ties counted half.
        n_tasks: number of shared tasks.
        n_seeds: number of seeds resampled; 1 when seeds do not vary.
    """

    value: float
    stderr: float
    low: float
    high: float
    confidence: float
    probability: float
    n_tasks: int
    n_seeds: int = 1

    def __post_init__(self) -> None:
        """Refuse impossible intervals."""
        _require_finite(self, "value", "stderr", "low", "high", "confidence", "probability")
        _require_counts(self, "n_tasks", "n_seeds")
        if self.low > self.high:
            raise ValueError(f"Difference.low must not exceed Difference.high, got {self.low} and {self.high}.")
        if not 0 < self.confidence < 1:
            raise ValueError(f"Difference.confidence must lie strictly between 0 and 1, got {self.confidence}.")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"Difference.probability must lie in [0, 1], got {self.probability}.")

    @property
    def verdict(self) -> Literal["above", "below", "undecided"]:
        """Which side of zero the whole interval lies on, `undecided` when it contains zero."""
        if self.low > 0:
            return "above"
        return "below" if self.high < 0 else "undecided"


class Comparison(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Two methods held against each other on one metric."""

    metric: str
    a: str
    b: str
    difference: Difference


class Cost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one cell of a table cost, as means per task.

    Attributes:
        tokens_sampled: tokens that the actor generated.
        tokens_scored: tokens that the PRM ran through its model.
        tokens_kept: tokens that it would have run too, had it not kept them from earlier rounds of the search.
        environment_steps: actions executed.
    """

    tokens_sampled: float = 0.0
    tokens_scored: float = 0.0
    tokens_kept: float = 0.0
    environment_steps: float = 0.0

    def __post_init__(self) -> None:
        """Refuse costs that are negative or not finite."""
        _require_finite(self, *self.__struct_fields__)
        for field in self.__struct_fields__:
            if getattr(self, field) < 0:
                raise ValueError(f"Cost.{field} must not be negative, got {getattr(self, field)}.")


class Column(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One metric of a table.

    Attributes:
        key: name by which rows refer to the column.
        title: what the header shows.
        meaning: one sentence with the unit, shown as explanation.
        digits: decimals shown.
        better: which direction is better, or None where there is none.
    """

    key: str
    title: str
    meaning: str = ""
    digits: int = 3
    better: Literal["higher", "lower"] | None = "higher"


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One method's figures, by column key; a column that does not apply is left out."""

    method: str
    kind: RowKind
    estimates: dict[str, Estimate]
    costs: dict[str, Cost] = {}
    note: str = ""


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Methods by metrics; every row refers to existing columns only, and no name stands twice."""

    name: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    caption: str = ""

    def __post_init__(self) -> None:
        """Refuse doubled names and figures without a column."""
        keys = [column.key for column in self.columns]
        _require_distinct(f"Table {self.name!r}: column keys", keys)
        _require_distinct(f"Table {self.name!r}: methods", [row.method for row in self.rows])
        for row in self.rows:
            for key in (*row.estimates, *row.costs):
                if key not in keys:
                    raise ValueError(
                        f"Table {self.name!r}, row {row.method!r}: {key!r} is not a column; the columns are {keys}."
                    )


class Curve(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A method's figures over the number of samples; one single size is a level, drawn as a horizontal line.

    Attributes:
        method: name of the method.
        kind: as in Row.
        sizes: numbers of samples N, increasing.
        estimates: one per size.
        tokens_sampled: mean tokens sampled per task at each size; None where unknown.
    """

    method: str
    kind: RowKind
    sizes: tuple[int, ...]
    estimates: tuple[Estimate, ...]
    tokens_sampled: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse curves whose parts disagree in length or whose sizes do not increase."""
        if not self.sizes or len(self.sizes) != len(self.estimates):
            raise ValueError(
                f"Curve {self.method!r}: expected as many estimates as sizes and at least one, "
                f"got {len(self.estimates)} estimates and {len(self.sizes)} sizes."
            )
        if self.tokens_sampled is not None and len(self.tokens_sampled) != len(self.sizes):
            raise ValueError(
                f"Curve {self.method!r}: expected one token count per size ({len(self.sizes)}), "
                f"got {len(self.tokens_sampled)}."
            )
        if self.sizes[0] < 1 or any(b <= a for a, b in zip(self.sizes, self.sizes[1:], strict=False)):
            raise ValueError(f"Curve {self.method!r}: sizes must be positive and increase, got {list(self.sizes)}.")


class Check(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A bar that was set before the run: passed or missed, with the figures that decided it."""

    name: str
    passed: bool
    detail: str


class Stage(Origin, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One stage of the run, what it took and under what it was worked on.

    Attributes:
        name: name of the stage.
        minutes: wall-clock minutes, those of the run that did the work if the stage was reused.
        tokens_trained: tokens seen by training.
        tokens_read: tokens of prompts that actors ran through their models.
        tokens_cached: tokens of prompts that actors had still in their caches.
        tokens_sampled: tokens generated by actors, those of recorded trajectories.
        tokens_wasted: tokens generated by actors for episodes of which no trajectory came.
        episodes_outgrown: episodes that ended because the actor's context had no room for another action.
        actions_cut: actions that the actor's limit of tokens cut off.
        tokens_scored: tokens that PRMs ran through their models.
        environment_steps: actions executed.
        reused: whether this run found the stage done.
        padding: share of padding among the tokens of a training's rows, in [0, 1]; None where nothing is packed.
    """

    name: str
    minutes: float
    tokens_trained: int = 0
    tokens_read: int = 0
    tokens_cached: int = 0
    tokens_sampled: int = 0
    tokens_wasted: int = 0
    episodes_outgrown: int = 0
    actions_cut: int = 0
    tokens_scored: int = 0
    environment_steps: int = 0
    reused: bool = False
    padding: float | None = None


class PrmTraining(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a PRM under test was trained; None is what its record does not tell.

    Attributes:
        method: its row in the tables.
        seed: of its training.
        progress: form of L_A, `gae` or `delta_q`; None without L_A as well.
        gamma: discount per step.
        lam: GAE's lambda of the labels.
        beta: weight of L_A.
        epochs: passes over the data; not used where `steps` is given.
        steps: number of updates.
        learning_rate: the highest one.
        extra_blocks: blocks above those of the model that it started from; None for none.
    """

    method: str
    seed: int
    progress: str | None = None
    gamma: float | None = None
    lam: float | None = None
    beta: float | None = None
    epochs: float | None = None
    steps: int | None = None
    learning_rate: float | None = None
    extra_blocks: int | None = None


class Results(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything an evaluation found, and where it came from.

    Where the same run is reported again, `created`, `command`, `machine`, `git_commit` and `versions` are those of the
    report; those of the run stay in `run`, and stage by stage in `stages`.

    Attributes:
        title: name of the experiment.
        headline: one paragraph; claims no more than the comparisons below it.
        created: when the report was written, with time zone.
        command: the command that wrote the report, and repeats it.
        machine: one line about the hardware that the report was written on.
        git_commit: commit of the code that wrote the report, None outside a repository.
        versions: versions of Python and of the packages that matter, of the process that wrote the report.
        run: commits, machines and versions under which what is reported was made and measured, as far as noted.
        config: the complete configuration of the evaluation as plain JSON values.
        pipeline: that of the whole pipeline which made what is evaluated; empty where there was none.
        prms: how each PRM under test was trained.
        tables, curves, comparisons, checks, stages: the findings.
    """

    schema: Literal["agentprm.results/1"] = SCHEMA
    title: str
    headline: str = ""
    created: Annotated[datetime.datetime, msgspec.Meta(tz=True)]
    command: str = ""
    machine: str = ""
    git_commit: str | None
    versions: dict[str, str]
    run: Origin = Origin()
    config: dict[str, Any]
    pipeline: dict[str, Any] = {}
    prms: tuple[PrmTraining, ...] = ()
    tables: tuple[Table, ...] = ()
    curves: tuple[Curve, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    checks: tuple[Check, ...] = ()
    stages: tuple[Stage, ...] = ()

    def table(self, name: str) -> Table:
        """The table of that name; KeyError names those that exist."""
        for table in self.tables:
            if table.name == name:
                return table
        raise KeyError(f"There is no table {name!r}; the tables are {[table.name for table in self.tables]}.")


def write_results(path: str | os.PathLike[str], results: Results) -> None:
    """Write `results` as indented JSON, whole or not at all.

    The text goes to a neighbouring file first and takes its final name last, so that neither a full disk nor a kill
    leaves half a file or loses the previous one.

    Args:
        path: the file, by convention `results.json`; its folder must exist.
        results: what to write.

    Raises:
        ResultsError: if a number in `config` or `pipeline` is not finite (JSON has no such numbers), naming it.
    """
    numbers = _numbers(results.config, "config") + _numbers(results.pipeline, "pipeline")
    for place, number in numbers:
        if not math.isfinite(number):
            raise ResultsError(f"Cannot write {path}: {place} must be a finite number for JSON, got {number}.")
    text = msgspec.json.format(msgspec.json.encode(results), indent=2)
    target = Path(path)
    partial = target.with_name(f"{target.name}.partial")
    with partial.open("wb") as file:
        file.write(text + b"\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, target)


def read_results(path: str | os.PathLike[str]) -> Results:
    """Read what `write_results` wrote, strictly: unknown, missing or misshapen fields are refused.

    Args:
        path: a `results.json`.

    Returns:
        The same record that was written.

    Raises:
        FileNotFoundError: if there is no such file.
        ResultsError: if it is not a results file of this schema; names the file and the field.
    """
    text = Path(path).read_bytes()
    try:
        return msgspec.json.decode(text, type=Results)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ResultsError(f"Cannot read {path} as results of schema {SCHEMA}: {error}.") from error


def _require_finite(record: msgspec.Struct, *fields: str) -> None:
    for field in fields:
        value = getattr(record, field)
        if value is not None and not math.isfinite(value):
            raise ValueError(f"{type(record).__name__}.{field} must be a finite number, got {value}.")


def _require_counts(record: msgspec.Struct, *fields: str) -> None:
    for field in fields:
        count = getattr(record, field)
        if count < 1:
            raise ValueError(f"{type(record).__name__}.{field} must be at least 1, got {count}.")


def _require_distinct(what: str, names: list[str]) -> None:
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise ValueError(f"{what} must be distinct, but {doubled} stand twice or more.")


def _numbers(value: Any, place: str) -> list[tuple[str, float]]:
    """All floats below `value` with their places, e.g. `config.loop.steps`."""
    if isinstance(value, float):
        return [(place, value)]
    if isinstance(value, dict):
        return [found for key, item in value.items() for found in _numbers(item, f"{place}.{key}")]
    if isinstance(value, list | tuple):
        return [found for i, item in enumerate(value) for found in _numbers(item, f"{place}[{i}]")]
    return []
