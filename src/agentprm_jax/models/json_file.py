"""JSON files that lie beside a model: objects, or an error that names the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agentprm_jax.models.checkpoint import CheckpointFormatError

DOWNLOAD_AGAIN = "Copy or download the file again."


def read_object(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointFormatError: the file is not UTF-8 or not JSON, or holds something else than an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointFormatError(f"{path} is not JSON: {error}. {DOWNLOAD_AGAIN}") from error
    if not isinstance(content, dict):
        raise CheckpointFormatError(f"{path}: expected a JSON object, got {type(content).__name__}.")
    return content
