"""`agentprm show`: one trajectory of a file on the terminal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from agentprm_jax.data.trajectory import Trajectory


@dataclass(frozen=True)
class ShowConfig:
    """Show one trajectory: its messages, which of them are actions, rewards, and promise and progress as bars."""

    trajectories: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="TRAJECTORIES")]
    """File of trajectories (.jsonl, .jsonl.gz or .jsonl.zst)."""
    id: str | None = None
    """Which one, by its id."""
    index: int | None = None
    """Which one, by its place in the file, from 0; the first if neither is given."""
    prm: str | None = None
    """Scores to show, by name; unset takes the only ones that there are."""
    full: bool = False
    """Whether long texts are shown to their end; otherwise they are folded, with a count of what is hidden."""

    def __post_init__(self) -> None:
        """Checks that one trajectory is meant.

        Raises:
            ValueError: both an id and a place are given, or the place is negative.
        """
        if self.id is not None and self.index is not None:
            raise ValueError(f"Give --id or --index, got both: {self.id} and {self.index}.")
        if self.index is not None and self.index < 0:
            raise ValueError(f"--index must be at least 0, got {self.index}.")

    @property
    def interrupted(self) -> str:
        """What Ctrl-C leaves."""
        return "Nothing was changed."


def main(config: ShowConfig) -> None:
    """Prints it."""
    from rich.console import Console

    from agentprm_jax.reporting.terminal import print_trajectory

    print_trajectory(_find(config), Console(), prm=config.prm, full=config.full)


def _find(config: ShowConfig) -> Trajectory:
    from agentprm_jax.data.trajectory import iterate_trajectories

    count = 0
    for trajectory in iterate_trajectories(config.trajectories):
        if trajectory.id == config.id or (config.id is None and count == (config.index or 0)):
            return trajectory
        count += 1
    wanted = f"no trajectory {config.id}" if config.id is not None else f"no trajectory at place {config.index or 0}"
    raise ValueError(f"{config.trajectories} holds {count:,} trajectories, but {wanted}.")
