"""How a PRM was trained, as its record says: what its rows are called, and what is told of it beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from agentprm_jax.reporting.methods import method_label
from agentprm_jax.reporting.results import PrmTraining
from agentprm_jax.training.config import Progress

if TYPE_CHECKING:
    from agentprm_jax.scoring.prm_files import PrmRecord

DEFAULT_FORM = "gae"
"""The form of L_A whose rows are called after the method alone."""
_TARGETS = {"gae": "the advantage (eq. 6)", "delta_q": "the difference of labels (eq. 9)"}


def prm_training(record: PrmRecord) -> PrmTraining:
    """What a PRM's record tells about its training; what it does not tell is None.

    The method is that of the record; AgentPRM with another form of L_A than `DEFAULT_FORM` is a method of its own. The
    seed is that of the training, or the number at the end of the PRM's name, or 0.
    """
    settings = record.training.get("settings")
    objective, loop, optimizer = (_part(settings, name) for name in ("objective", "loop", "optimizer"))
    form = objective.get("progress") if record.method == "agentprm" else None
    form = form if form in get_args(Progress) else None
    tail = record.name.rsplit("-", 1)[-1]
    notes = settings if isinstance(settings, dict) else {}
    seed = notes.get("seed")
    return PrmTraining(
        method=record.method if form in (None, DEFAULT_FORM) else f"{record.method}_{form}",
        seed=seed if isinstance(seed, int) else int(tail) if tail.isdecimal() else 0,
        progress=form,
        gamma=_number(objective, "gamma"),
        lam=_number(objective, "lam"),
        beta=_number(objective, "beta"),
        epochs=_number(loop, "epochs"),
        steps=_number(loop, "steps"),
        learning_rate=_number(optimizer, "learning_rate"),
        extra_blocks=_number(notes, "extra_blocks") or None,
    )


def check_apart(trained: Mapping[Path, PrmTraining]) -> None:
    """Checks that PRMs can stand in one table: a row is a method, whose PRMs differ in their seed and nothing else.

    Methods are compared seed by seed, so all have the same seeds.

    Raises:
        ValueError: two PRMs have the same method and seed, or the same method and another training, or methods differ
            in their seeds.
    """
    found = list(trained.items())
    for place, (folder, one) in enumerate(found):
        for other_folder, other in found[:place]:
            if one.method != other.method:
                continue
            differing = [name for name in one.__struct_fields__ if getattr(one, name) != getattr(other, name)]
            if "seed" not in differing:
                raise ValueError(
                    f"{other_folder} and {folder} are both {method_label(one.method)} with seed {one.seed}: the PRMs "
                    "of a method must differ in their seed. Evaluate them in two folders."
                )
            if differing != ["seed"]:
                raise ValueError(
                    f"{other_folder} and {folder} are both {method_label(one.method)} but were trained differently "
                    f"({_differences(other, one, differing)}): the PRMs of a method must differ in their seed alone. "
                    "Evaluate them in two folders."
                )
    seeds: dict[str, list[int]] = {}
    for one in sorted(trained.values(), key=lambda one: one.seed):
        seeds.setdefault(method_label(one.method), []).append(one.seed)
    if len(set(map(tuple, seeds.values()))) > 1:
        found_seeds = "; ".join(f"{method}: {', '.join(map(str, own))}" for method, own in seeds.items())
        raise ValueError(
            f"Methods are compared seed by seed, so the PRMs of all must have the same seeds, got {found_seeds}. Train "
            "those that are missing, or evaluate with the seeds that all have."
        )


def describe_form(training: PrmTraining | None) -> str:
    """The form of L_A in a sentence; empty for a PRM without L_A, or of which that is not known."""
    if training is None or training.progress is None:
        return ""
    weight = "" if training.beta is None else f", beta {training.beta:g}"
    spread = "" if training.lam is None else f", lambda {training.lam:g}"
    return f"L_A in its {training.progress} form, whose target is {_TARGETS[training.progress]}{spread}{weight}"


def describe_training(training: PrmTraining) -> str:
    """Everything that is known of a training as `name value`, in the order of the record."""
    known = ((name, getattr(training, name)) for name in training.__struct_fields__ if name not in ("method", "seed"))
    return ", ".join(f"{name} {value}" for name, value in known if value is not None) or "not known"


def _differences(one: PrmTraining, other: PrmTraining, names: list[str]) -> str:
    return ", ".join(f"{name} {getattr(one, name)} and {getattr(other, name)}" for name in names if name != "seed")


def _part(settings: Any, name: str) -> dict[str, Any]:
    """Notes are any JSON, so what is not there, or is of another shape, is empty."""
    part = settings.get(name) if isinstance(settings, dict) else None
    return part if isinstance(part, dict) else {}


def _number(part: dict[str, Any], name: str) -> Any:
    value = part.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
