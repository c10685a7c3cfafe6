"""What a scorer is: trajectories in, promise and progress of every step out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from agentprm_jax.data.trajectory import Message, Trajectory


class StepScores(NamedTuple):
    """Scores of the actions of one trajectory, in order.

    Attributes:
        promise: expected outcome after each action.
        progress: what each action added to it.
    """

    promise: tuple[float, ...]
    progress: tuple[float, ...]

    @classmethod
    def from_promise(cls, promise: Sequence[float], initial_value: float) -> StepScores:
        """Progress as the difference of consecutive promises (AgentPRM, eq. 8, arXiv 2511.08325).

        Args:
            promise: promise of each action.
            initial_value: expected outcome before the first action.
        """
        before = (initial_value, *promise[:-1])
        return cls(tuple(promise), tuple(after - earlier for earlier, after in zip(before, promise, strict=False)))


class Scorer(Protocol):
    """Anything that values the steps of trajectories."""

    def score(self, trajectories: Sequence[Trajectory]) -> list[StepScores]:
        """Scores of every action of every trajectory, in the order of `trajectories`."""
        ...


class ConversationScorer(Protocol):
    """Anything that values the last action of conversations, as search needs it."""

    def score_conversations(self, conversations: Sequence[Sequence[Message]]) -> list[float]:
        """Promise of the assistant message that ends each conversation, in the order of `conversations`."""
        ...
