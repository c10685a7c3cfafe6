"""What commands that write files share: outputs are never overwritten in silence, and refusals are shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

_SHOWN = 5


def unlike_file(path: Path) -> str:
    """What tells something that is there from a file: expected and got, or nothing."""
    return "expected a file, got a folder" if path.is_dir() else ""


def check_output(path: Path, *, overwrite: bool, unlike: Callable[[Path], str] = unlike_file) -> None:
    """Checks that nothing stands where a command is to write, before any work is done.

    Args:
        path: where it is to write.
        overwrite: whether what stands there may be replaced.
        unlike: tells how something is unlike what the command writes, which is then never replaced; empty if it is not.

    Raises:
        FileExistsError: something does, and `overwrite` is false or it is unlike what the command writes.
        FileNotFoundError: the folder that is to hold it does not exist.
    """
    if path.exists() and (found := unlike(path)):
        raise FileExistsError(f"{path} exists already and cannot be replaced: {found}. Choose another name.")
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
