"""Where results come from: versions of packages, commit of the code, kind of machine."""

import functools
import os
import platform
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

PACKAGES = ("agentprm-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "transformers", "grain", "numpy")


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Under what something was made: several of each where it was continued under others, none where nobody noted it.

    Attributes:
        commits: commits of the code.
        machines: as `describe_machine` gives them.
        versions: as `package_versions` gives them.
    """

    commits: tuple[str, ...] = ()
    machines: tuple[str, ...] = ()
    versions: tuple[dict[str, str], ...] = ()


def origin_here() -> Origin:
    """That of what this process makes."""
    commit = package_commit()
    return Origin(commits=(commit,) if commit else (), machines=(describe_machine(),), versions=(package_versions(),))


def join_origins(origins: Iterable[Origin]) -> dict[str, Any]:
    """The fields of the `Origin` of what is made of several things: all that is different, in order."""
    each = list(origins)
    return {name: _distinct(value for one in each for value in getattr(one, name)) for name in Origin.__struct_fields__}


def package_versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Versions of Python and of those `packages` that are installed, without importing them."""
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def git_commit(folder: str | os.PathLike[str]) -> str | None:
    """Commit of the checkout that holds `folder`, with `+changes` if tracked files differ from it.

    Returns:
        None outside a repository, and where git is not installed.
    """
    commit = _git(Path(folder), "rev-parse", "HEAD")
    if not commit:
        return None
    return f"{commit}+changes" if _git(Path(folder), "status", "--porcelain", "--untracked-files=no") else commit


def package_commit() -> str | None:
    """Commit of the checkout that this package runs from; None where it is installed, though it were below another."""
    here = Path(__file__)
    return git_commit(here.parent) if _git(here.parent, "ls-files", "--error-unmatch", here.name) else None


@functools.cache
def describe_machine() -> str:
    """One line: operating system, processor architecture and the number of cores this process may use when first asked.

    A worker that keeps to one of them asks before it does.
    """
    available = getattr(os, "sched_getaffinity", None)
    cores = len(available(0)) if available else os.cpu_count() or 1
    return f"{platform.system()} {platform.machine()}, {cores} core{'' if cores == 1 else 's'}"


def _distinct(values: Iterable[Any]) -> tuple[Any, ...]:
    """Each value once; they need no hash."""
    found: list[Any] = []
    found.extend(value for value in values if value not in found)
    return tuple(found)


def _git(folder: Path, *arguments: str) -> str | None:
    """Standard output of a git command, None where it fails or git is missing."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
