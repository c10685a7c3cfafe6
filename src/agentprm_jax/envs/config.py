"""Which environment and which of its tasks an experiment uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class EnvironmentConfig:
    """An environment and the form in which it is played."""

    name: Literal["babyai", "textcraft"] = "babyai"
    """Environment."""
    form: Literal["agentgym", "declared"] = "declared"
    """How an episode ends: as in AgentGym, or by the actor's own `finish`, which does not give the outcome away."""
    text: Literal["agentgym", "compact"] = "compact"
    """Wording of observations: AgentGym's sentences, or a closed vocabulary of about a hundred words."""
    max_rounds: int = 10
    """Actions after which an episode is cut off."""

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            ValueError: the round limit is below 1.
        """
        if self.max_rounds < 1:
            raise ValueError(f"EnvironmentConfig.max_rounds must be at least 1, got {self.max_rounds}.")

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments of `make_env` beside the name."""
        return {"form": self.form, "text": self.text, "max_rounds": self.max_rounds}


@dataclass(frozen=True)
class TaskConfig:
    """A set of tasks: a split of AgentGym, or levels of BabyAI over a range of level seeds."""

    split: str = "train"
    """AgentGym's split (train, test, or development: the last tasks of train) when `levels` is empty; the name under
    which trajectories are recorded."""
    levels: tuple[str, ...] = ()
    """BabyAI level names, such as PickupLoc; empty takes AgentGym's task ids of `split`."""
    first_seed: int = 0
    """First level seed; every seed gives one task a level."""
    count: int | None = None
    """Number of tasks; None takes the whole split. Levels take turns, so any count mixes them evenly."""

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            ValueError: levels without a count, or a number out of range.
        """
        if self.count is not None and self.count < 1:
            raise ValueError(f"TaskConfig.count must be None or at least 1, got {self.count}.")
        if self.levels and self.count is None:
            raise ValueError("TaskConfig.count must be given with levels: level seeds have no end.")
        if self.first_seed < 0:
            raise ValueError(f"TaskConfig.first_seed must be at least 0, got {self.first_seed}.")
