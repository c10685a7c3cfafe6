"""The evaluation whose figures stand on a model's card: one of this very model, and not of another with its name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentprm_jax.commands.model_folder import MODEL, ModelFolder, find_model

if TYPE_CHECKING:
    from agentprm_jax.reporting.results import Results

RESULTS = "results.json"


def find_evaluation(given: Path | None, found: ModelFolder) -> Results | None:
    """The evaluation that was given, or one beside the run.

    Args:
        given: folder of an evaluation or its results; None looks beside the run.
        found: the model.

    Returns:
        What was found of the model; None where nothing was given, and nothing beside the run names it.

    Raises:
        FileNotFoundError: what was given is not there.
        ValueError: it did not measure the model, but others.
    """
    from agentprm_jax.reporting.results import read_results

    if given is not None:
        path = given / RESULTS if given.is_dir() else given
        results = read_results(path)
        if not _measured(results, path, found):
            raise ValueError(
                f"{path}: expected an evaluation of {found.run or found.model}, got one of "
                f"{', '.join(map(str, _named(results, found))) or 'no such model'}. Give another with --evaluation."
            )
        return results
    if found.run is None:
        return None
    run = found.run.resolve()
    for path in (place / RESULTS for place in (run, run / "evaluation", run.parent / "evaluation")):
        if path.is_file():
            results = read_results(path)
            if _measured(results, path, found):
                return results
    return None


def _measured(results: Results, path: Path, found: ModelFolder) -> bool:
    return any(_same(named, results, path, found) for named in _named(results, found))


def _named(results: Results, found: ModelFolder) -> list[Path]:
    """Where the models lay that an evaluation measured, of the kind of this one."""
    if _is_prm(found):
        return [Path(prm) for prm in results.config.get("prms", ())]
    actor = results.config.get("actor")
    return [Path(actor)] if actor else []


def _same(named: Path, results: Results, path: Path, found: ModelFolder) -> bool:
    """Whether a model that an evaluation names is this one: the same folder, or a copy with the same training.

    Where the named one is gone, the last two parts of its path stand for it, as they do in notes of a training.
    """
    for place in _places(named, results, path):
        try:
            there = find_model(place).model
        except FileNotFoundError:
            continue
        return there.resolve() == found.model.resolve() or _notes(there) == _notes(found.model) != {}
    return _last_two(named) == _last_two(found.model.resolve()) and _trained_alike(results, found)


def _places(named: Path, results: Results, path: Path) -> Iterator[Path]:
    """Where a named model may lie now: as far from the evaluation as it did then, or where it did then."""
    if output := results.config.get("output"):
        yield path.resolve().parent / os.path.relpath(named, output)
    if named.is_absolute():
        yield named


def _notes(model: Path) -> dict[str, Any]:
    """Notes that tell one training from another; of a model from elsewhere there are none."""
    from agentprm_jax.reporting.training_notes import IMPORTED, read_notes

    notes = read_notes(model)
    return {} if IMPORTED in notes else notes


def _last_two(path: Path) -> tuple[str, ...]:
    parts = path.parts[:-1] if path.name == MODEL else path.parts
    return parts[-2:]


def _trained_alike(results: Results, found: ModelFolder) -> bool:
    """Whether a PRM is one of those whose training the evaluation tells."""
    from agentprm_jax.reporting.prm_training import prm_training
    from agentprm_jax.scoring.prm_files import read_prm_record

    if not _is_prm(found) or not results.prms:
        return True
    return prm_training(read_prm_record(found.model)) in results.prms


def _is_prm(found: ModelFolder) -> bool:
    from agentprm_jax.scoring.prm_files import PRM

    return (found.model / PRM).is_file()
