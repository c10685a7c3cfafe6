"""Finds the model that a path means: a model's own folder, or the run that trained it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

MODEL = "model"


class ModelFolder(NamedTuple):
    """A model and, where it lies in one, the folder of its run."""

    model: Path
    run: Path | None


def find_model(path: Path) -> ModelFolder:
    """The model folder at a path.

    Args:
        path: a folder with a model's config.json and weights, or a run of sft.py or train_prm.py that holds one as
            `model`.

    Raises:
        FileNotFoundError: neither is there, as where the path is a GGUF file, or the run has not finished.
    """
    from agentprm_jax.models.gguf_file import is_gguf
    from agentprm_jax.models.safetensors_folder import CONFIG
    from agentprm_jax.reporting.stage import DONE_FILE

    if (path / MODEL).is_dir():
        if not (path / DONE_FILE).is_file():
            raise FileNotFoundError(
                f"{path} is a run that has not finished: {DONE_FILE} is missing beside {MODEL}. Run its command again."
            )
        return ModelFolder(path / MODEL, path)
    if not (path / CONFIG).is_file():
        file = "a GGUF file: make a folder of it with `agentprm import`" if is_gguf(path) else "a file"
        got = "a folder without one" if path.is_dir() else file if path.exists() else "nothing"
        raise FileNotFoundError(
            f"There is no model in {path}: expected a folder with a model's config.json, or a finished run that holds "
            f"one as {MODEL}; got {got}."
        )
    run = path.parent
    return ModelFolder(path, run if (run / DONE_FILE).is_file() and path.name == MODEL else None)
