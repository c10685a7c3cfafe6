"""The environment protocol: observations, forkable environments, and the checks that every environment shares."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FORMS = ("agentgym", "declared")
"""How an episode ends: as in AgentGym (reaching the goal ends it), or declared by the actor with `FINISH`."""

FINISH = "finish"
"""The action that ends an episode in declared form, see `is_finish`."""

Options = TypeVar("Options", bound="DataclassInstance")


def is_finish(action: str) -> bool:
    """Whether an action declares the end, in whatever case and with whatever space around it."""
    return action.strip().lower() == FINISH


@dataclass(frozen=True)
class Observation:
    """What an environment answers to `reset` and `step`.

    Attributes:
        text: What the actor reads.
        reward: The reward of this step, usually in [0, 1]; 0 after `reset`.
        terminated: The episode has ended by its own rules.
        truncated: The episode was cut off at the round limit.
        info: Facts for reports and experts that the actor must not see, such as whether the goal holds.
    """

    text: str
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Whether the episode is over, for either reason."""
        return self.terminated or self.truncated


class ReplayDiverged(RuntimeError):
    """Replaying the actions of an episode did not give its observations again."""


class Environment(ABC):
    """A text environment with one running episode.

    Attributes:
        name: The first part of its task ids, such as `textcraft` in `textcraft_17`.
        opening: Messages `(role, content)` that come before the first observation of a conversation; may be empty.
    """

    name: ClassVar[str]
    opening: tuple[tuple[str, str], ...] = ()

    @abstractmethod
    def reset(self, task: str) -> Observation:
        """Starts an episode and returns its first observation.

        Args:
            task: A task id, `<environment>_<data_idx>`.

        Raises:
            ValueError: The id does not name a task of this environment.
        """

    @abstractmethod
    def step(self, action: str) -> Observation:
        """Takes one action in the running episode; an impossible action is answered in the text and never raises.

        Raises:
            RuntimeError: No episode was started, or it has ended.
        """

    @abstractmethod
    def fork(self) -> Environment:
        """Returns an independent copy in the same state."""

    def outcome(self, rewards: Sequence[float]) -> float:
        """Returns what an episode that paid these rewards has come to, in [0, 1]: their sum, where it is paid in parts.

        Args:
            rewards: Those of all its actions so far, as `step` gave them.
        """
        return math.fsum(rewards)

    def valid_actions(self) -> list[str] | None:
        """Returns actions that are possible in the present state, or None when the environment cannot list any."""
        return None

    def close(self) -> None:
        """Frees what the environment holds; harmless when called twice."""
        return None


def replay_fork(
    make: Callable[[], Environment], task: str, actions: Sequence[str], texts: Sequence[str]
) -> Environment:
    """Forks an environment that cannot be copied, by playing its episode again in a new one.

    Args:
        make: Makes a fresh environment with the same options.
        task: The task id of the episode.
        actions: The actions taken so far.
        texts: The observed texts so far, that of `reset` first; one more than `actions`.

    Returns:
        The new environment, in the state after the last action.

    Raises:
        ReplayDiverged: A replayed text differs from the recorded one.
    """
    copy = make()
    for round_, expected in enumerate(texts):
        got = (copy.reset(task) if round_ == 0 else copy.step(actions[round_ - 1])).text
        if got != expected:
            raise ReplayDiverged(
                f"The replay of task {task!r} diverged at observation {round_}: expected {expected!r}, got {got!r}."
            )
    return copy


def data_index(name: str, task: str) -> int:
    """Returns the data index of a task id of the environment `name`: 17 for `textcraft_17`.

    Raises:
        ValueError: The id is not `<name>_<integer>`.
    """
    prefix, _, index = task.rpartition("_")
    if prefix != name or not index.removeprefix("-").isdecimal():
        raise ValueError(f"Unknown task {task!r}: expected an id of the form '{name}_<data_idx>', such as '{name}_17'.")
    return int(index)


def parse_options(name: str, kind: type[Options], options: Mapping[str, Any]) -> Options:
    """Builds the options dataclass `kind` of the environment `name`, naming what exists when an option does not.

    Raises:
        ValueError: An option is unknown, or the dataclass refuses its value.
    """
    known = [f.name for f in dataclasses.fields(kind)]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(f"Environment {name!r} has no option {unknown[0]!r}; its options are {', '.join(known)}.")
    return kind(**options)


def check_choice(option: str, got: str, choices: Sequence[str]) -> None:
    """Raises ValueError unless the option's value is one of `choices`."""
    if got not in choices:
        raise ValueError(f"Option {option!r} must be one of {', '.join(map(repr, choices))}, got {got!r}.")


def check_max_rounds(max_rounds: int | None) -> None:
    """Raises ValueError unless the round limit is None (no limit) or a positive integer."""
    if max_rounds is not None and max_rounds < 1:
        raise ValueError(f"Option 'max_rounds' must be None or at least 1, got {max_rounds}.")


def require_running(name: str, started: bool, ended: bool) -> None:
    """Raises RuntimeError unless an episode was started and has not ended; call it first in `step`."""
    if not started:
        raise RuntimeError(f"Environment {name!r} got step before reset: call reset(task) to start an episode.")
    if ended:
        raise RuntimeError(f"The episode of environment {name!r} has ended: call reset(task) to start another one.")
