"""What is kept beside a trained model about its training, for its model card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from agentprm_jax.data.packing import PackedRows
from agentprm_jax.data.store import ExampleStore
from agentprm_jax.models.json_file import read_object
from agentprm_jax.reporting.provenance import describe_machine, git_commit, package_versions
from agentprm_jax.reporting.stage import plain_config, read_metrics
from agentprm_jax.scoring.prm_files import PRM, read_prm_record

TRAINING = "training_notes.json"
"""File of a language model's folder that holds its notes; a PRM has them in prm.json."""
IMPORTED = "imported"
"""Note of a model that comes from elsewhere: the last two parts of the path that it was imported from."""
_LEFT_OUT = ("output", "mesh", "distributed")


def training_notes(config: Any, examples: ExampleStore, rows: PackedRows, run: Path, code: Path) -> dict[str, Any]:
    """Notes about a finished training run.

    Args:
        config: the dataclass config of the run. Of paths the last two parts are kept, which say what it was and not
            whose machine it lay on.
        examples: what was trained on.
        rows: how it was packed.
        run: the run's folder, with its metrics.
        code: a folder of the checkout.

    Returns:
        JSON: `settings`, `data` (counts, mean outcome and share of padding in [0, 1]), `updates`, `tokens` seen,
        `versions`, `commit` and `machine`.
    """
    metrics = read_metrics(run / "metrics.jsonl")
    settings = {
        name: _short(getattr(config, name)) if isinstance(getattr(config, name), Path) else value
        for name, value in plain_config(config).items()
        if name not in _LEFT_OUT
    }
    return {
        "settings": settings,
        "data": {
            "trajectories": len(examples),
            "left_out": len(rows.dropped),
            "tasks": len(np.unique(examples.groups)),
            "steps": int(examples.steps.sum(dtype=np.int64)),
            "mean_outcome": float(examples.outcomes.sum()) / max(1, len(examples)),
            "padding": rows.padding_share,
        },
        "updates": metrics[-1]["step"],
        "tokens": int(sum(row["tokens"] for row in metrics)),
        "versions": package_versions(),
        "commit": git_commit(code),
        "machine": describe_machine(),
    }


def notes_of_import(model: Path) -> dict[str, Any]:
    """Notes about a model that is imported: those that lie beside it, or where it comes from."""
    return read_notes(model) or {IMPORTED: _short(model)}


def read_notes(model: Path) -> dict[str, Any]:
    """The notes that a model's folder holds; {} where it holds none.

    Raises:
        ValueError: their file is damaged.
    """
    if (model / PRM).is_file():
        return read_prm_record(model).training
    path = model / TRAINING
    return read_object(path) if path.is_file() else {}


def _short(path: Path) -> str:
    return "/".join(path.parts[-2:])
