"""The record of what a run is made of, so that it is continued only by the same run."""

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from agentprm_jax.training.distributed import whole_on_host
from agentprm_jax.training.mesh import path_name

Record = Mapping[str, Any]


class RunMismatch(ValueError):
    """An output folder holds a run that was started with other settings."""


def write_record(path: pathlib.Path, record: Record) -> None:
    """Writes the record as JSON; the file is whole or not there at any moment."""
    os.replace(_written(record, draft_of(path)), path)


def claim_record(path: pathlib.Path, record: Record) -> None:
    """Writes the record where there is none; of several processes that want to, one does, and the others compare.

    Raises:
        RunMismatch: another process has written another one.
    """
    draft = _written(record, draft_of(path, f".{os.getpid()}"))
    try:
        os.link(draft, path)
    except FileExistsError:
        check_record(path, record)
    except OSError:  # there are file systems without links
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def draft_of(path: pathlib.Path, writer: str = "") -> pathlib.Path:
    """Where a record is written before it takes its place; what a killed process has left there means nothing."""
    return path.with_name(f"{path.name}{writer}.tmp")


def is_draft(path: pathlib.Path, *names: str) -> bool:
    """Whether a file is a draft of a record with one of these names, of whatever process."""
    return any(path.name.startswith(f"{name}.") and path.name.endswith(".tmp") for name in names)


def _written(record: Record, path: pathlib.Path) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps(record, indent=2, sort_keys=True) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return path


def check_record(path: pathlib.Path, record: Record) -> None:
    """Compares the record of a started run with that of the run that wants to continue it.

    Raises:
        RunMismatch: if they differ; names the fields and both values.
        FileNotFoundError: if there is no record.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is missing, so the checkpoints beside it cannot be continued: nobody knows with which settings "
            "they were made. Choose another output folder, or remove this one."
        )
    started, wanted = _flat(json.loads(path.read_text(encoding="utf-8"))), _flat(json.loads(json.dumps(record)))
    differing = sorted(name for name in started.keys() | wanted.keys() if started.get(name) != wanted.get(name))
    if differing:
        shown = "; ".join(f"{name} was {started.get(name)!r} and is now {wanted.get(name)!r}" for name in differing[:3])
        rest = f"; and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise RunMismatch(
            f"The run in {path.parent} was started with other settings: {shown}{rest}. Continue it with the old "
            "settings, choose another output folder, or remove this one to start again."
        )


def fingerprint(tree: Any) -> str:
    """Digests the arrays of a tree (paths, dtypes, shapes and contents), for use in a record.

    Args:
        tree: a pytree of arrays, such as packed rows or pretrained parameters. Where they lie on the devices of several
            processes, all processes must call it.
    """
    digest = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(tree):
        array = np.ascontiguousarray(whole_on_host(leaf))
        digest.update(f"{path_name(path)} {array.dtype} {array.shape} ".encode())
        digest.update(array.view(np.uint8).data if array.size else b"")
    return digest.hexdigest()[:16]


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {name: value}
    parts = [_flat(child, f"{name}.{key}" if name else key) for key, child in value.items()]
    return {key: child for part in parts for key, child in part.items()}
