"""What commands that write files share: outputs are never overwritten in silence, and refusals are shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_SHOWN = 5


def check_output(path: Path, *, overwrite: bool) -> None:
    """Checks that nothing stands where a command is to write, before any work is done.

    Raises:
        FileExistsError: something does, and `overwrite` is false.
        FileNotFoundError: the folder that is to hold it does not exist.
    """
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists already. Choose another name, or replace it with --overwrite.")
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"{path} cannot be written: the folder {path.absolute().parent} does not exist.")


def print_refused(reasons: Sequence[str]) -> None:
    """Prints the first few reasons, and how many more there are."""
    for reason in reasons[:_SHOWN]:
        print(f"  refused: {reason}")
    if len(reasons) > _SHOWN:
        print(f"  and {len(reasons) - _SHOWN:,} more")
