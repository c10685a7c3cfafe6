"""What a scorer is: trajectories in, promise and progress of every step out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from agentprm_jax.data.trajectory import Message, Trajectory


class StepScores(NamedTuple):
    """Scores of one trajectory's steps.

    Attributes:
        promise: Q(s_t, a_t) of each action.
        progress: difference of consecutive promises; the first one is taken from the scorer's initial value
            (AgentPRM, eq. 8, arXiv 2511.08325).
    """

    promise: tuple[float, ...]
    progress: tuple[float, ...]


class Scorer(Protocol):
    """Values the steps of trajectories."""

    def score(self, trajectories: Sequence[Trajectory]) -> list[StepScores]:
        """Scores of each trajectory, in order."""
        ...


class ConversationScorer(Protocol):
    """Values actions that have not been taken yet, for search."""

    def score_conversations(self, conversations: Sequence[Sequence[Message]]) -> list[float]:
        """Promise of the last action of each conversation, in order; higher is better."""
        ...
