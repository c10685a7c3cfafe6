"""Sets further fields of a model folder's config.json, which the decoder itself does not need."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from agentprm_jax.models.hugging_face import CONFIG


def amend_config(folder: Path, **fields: Any) -> None:
    """Sets fields of config.json, such as `pad_token_id`; the file is whole at any moment.

    Args:
        folder: a model folder.
        **fields: what is set, as JSON.

    Raises:
        FileNotFoundError: the folder has no config.json.
    """
    path = folder / CONFIG
    description = json.loads(path.read_text(encoding="utf-8"))
    partial = path.with_name(f"{CONFIG}.partial")
    partial.write_text(json.dumps({**description, **fields}, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, path)
