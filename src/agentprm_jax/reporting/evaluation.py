"""What is measured for one scorer on the test tasks, as a record that is kept in a file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import numpy as np
from jaxtyping import Float

from agentprm_jax.reporting.methods import ensemble_name
from agentprm_jax.reporting.provenance import Origin, join_origins
from agentprm_jax.reporting.results import PrmTraining


class SearchOutcomes(msgspec.Struct, frozen=True, kw_only=True):
    """Results of one search setting, one entry a task in each list.

    Attributes:
        outcomes: outcome of the chosen path, in [0, 1].
        terminated: whether the chosen path ended by itself.
        sampled_tokens: tokens sampled for all candidates.
        scored_actions: candidates that the scorer valued.
        environment_steps: steps taken.
        scored_tokens: tokens that the scorer ran through its model, mean per task.
        kept_tokens: tokens of the conversations that it had kept from earlier rounds and did not run again, mean per
            task.
        unanswered: paths that were given up, because the actor left them without an answer; empty where none was
            counted.
    """

    outcomes: list[float]
    terminated: list[bool]
    sampled_tokens: list[int]
    scored_actions: list[int]
    environment_steps: list[int]
    scored_tokens: float
    kept_tokens: float = 0.0
    unanswered: list[int] = []


class Evaluation(Origin, frozen=True, kw_only=True):
    """One scorer on the pool and in beam search, and under what it was measured.

    Attributes:
        method: name of the method or control.
        seed: of the scorer's training.
        promises: for each trajectory of the pool (task by task) the promise of each step; empty for a control.
        pool_tokens: tokens read to score the pool.
        beams: by size, such as "2x2".
        minutes: time it took.
        initial_value: expected outcome before the first action, from which the first progress is counted; None for a
            control.
        training: how the PRM was trained; None for a control.
        inputs: digest of the PRM's record and of the pool, from `digest_inputs`; None for a control and in older files.
        commit: the only commit, as older code noted it; `read_evaluation` puts it among `commits`.
    """

    method: str
    seed: int
    promises: list[list[float]]
    pool_tokens: int
    beams: dict[str, SearchOutcomes]
    minutes: float = 0.0
    initial_value: float | None = None
    training: PrmTraining | None = None
    inputs: str | None = None
    commit: str | None = None

    def __post_init__(self) -> None:
        """Refuses promises without what the first progress is counted from."""
        if self.promises and self.initial_value is None:
            raise ValueError("Evaluation.initial_value must be a number where there are promises, got None")

    @property
    def promise_rows(self) -> list[Float[np.ndarray, " u"]]:
        """The promises as arrays."""
        return [np.asarray(row, np.float64) for row in self.promises]


def write_evaluation(path: Path, evaluation: Evaluation) -> None:
    """Writes the record whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as file:
        file.write(msgspec.json.encode(evaluation))
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def read_evaluation(path: Path) -> Evaluation:
    """Reads what `write_evaluation` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such record; the message names the file and the field.
    """
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Evaluation)
    except msgspec.DecodeError as error:
        raise ValueError(
            f"Cannot read {path} as an evaluation: {error}. Remove the file to measure it again."
        ) from error
    return found if found.commit is None else msgspec.structs.replace(found, commits=(found.commit,), commit=None)


def digest_inputs(paths: Iterable[Path]) -> str:
    """A digest of what files hold, in their order."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def check_kept(path: Path, inputs: str | None) -> Evaluation:
    """What was measured before, of the same inputs.

    Raises:
        ValueError: it is of another PRM or another pool, made anew under the same name, or no such record.
    """
    found = read_evaluation(path)
    if None not in (found.inputs, inputs) and found.inputs != inputs:
        raise ValueError(
            f"{path} was measured with another PRM or another pool than those that lie there now: their digest was "
            f"{found.inputs} and is {inputs}. Remove the file to measure again, or choose another output folder."
        )
    return found


def join_parts(parts: Sequence[Evaluation]) -> Evaluation:
    """One scorer's evaluation as a whole, of which one part has scored the pool and the others have searched."""
    return msgspec.structs.replace(
        parts[0],
        promises=[row for part in parts for row in part.promises],
        pool_tokens=sum(part.pool_tokens for part in parts),
        beams={size: search for part in parts for size, search in part.beams.items()},
        minutes=sum(part.minutes for part in parts),
        **join_origins(parts),
    )


def ensemble(evaluations: Sequence[Evaluation]) -> Evaluation:
    """The scorer whose promise is the mean of those of one method's PRMs of all seeds, on the pool alone.

    Args:
        evaluations: of one method, each with promises for the same trajectories.
    """
    rows = zip(*(one.promise_rows for one in evaluations), strict=True)
    return Evaluation(
        method=ensemble_name(evaluations[0].method, len(evaluations)),
        seed=0,
        promises=[np.mean(row, axis=0).tolist() for row in rows],
        pool_tokens=sum(one.pool_tokens for one in evaluations),
        beams={},
        initial_value=float(np.mean([one.initial_value for one in evaluations if one.initial_value is not None])),
        **join_origins(evaluations),
    )


def measurement_names(prms: Sequence[Path], taken: Sequence[str]) -> dict[str, Path]:
    """The folders of PRMs by the names of their measurements: the shortest ends of their paths that are all different.

    Args:
        prms: the folders.
        taken: names that mean something else.

    Raises:
        ValueError: a folder stands there twice.
    """
    for depth in range(1, max((len(prm.parts) for prm in prms), default=1) + 1):
        names = ["+".join(prm.parts[-depth:]).replace("/", "") for prm in prms]
        if len({*names, *taken}) == len(names) + len(taken):
            return dict(zip(names, prms, strict=True))
    raise ValueError(f"Every PRM must stand in a folder of its own, got {', '.join(map(str, prms))}.")


def by_method(evaluations: Sequence[Evaluation]) -> dict[str, list[Evaluation]]:
    """Evaluations of each method in order of their seeds.

    Raises:
        ValueError: two evaluations share method and seed.
    """
    groups: dict[str, list[Evaluation]] = {}
    for evaluation in sorted(evaluations, key=lambda e: e.seed):
        group = groups.setdefault(evaluation.method, [])
        if group and group[-1].seed == evaluation.seed:
            raise ValueError(f"Two evaluations of {evaluation.method} have the seed {evaluation.seed}.")
        group.append(evaluation)
    return groups
