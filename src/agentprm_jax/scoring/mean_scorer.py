"""Several PRMs as one: the mean of their scores, which depends less on the seed of a training than each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from agentprm_jax.data.trajectory import Message, Trajectory
from agentprm_jax.scoring.base import ConversationScorer, Scorer, StepScores


class WholeScorer(Scorer, ConversationScorer, Protocol):
    """Anything that values trajectories, and conversations as search needs it; a `Prm` does."""


class MeanScorer:
    """The mean of the scores of several PRMs, for instance of one method's seeds; it costs what all of them cost.

    Progress is linear in the promises, so its mean is also the progress of the mean promise.
    """

    def __init__(self, scorers: Sequence[WholeScorer]):
        """Remembers the scorers.

        Raises:
            ValueError: there are none.
        """
        if not scorers:
            raise ValueError("MeanScorer needs at least one scorer, got none.")
        self.scorers = tuple(scorers)

    def score(self, trajectories: Sequence[Trajectory]) -> list[StepScores]:
        """Mean promise and progress of every action of every trajectory, in the order of `trajectories`."""
        found = zip(*(scorer.score(trajectories) for scorer in self.scorers), strict=True)
        return [StepScores(*(_mean(rows) for rows in zip(*scores, strict=True))) for scores in found]

    def score_conversations(self, conversations: Sequence[Sequence[Message]]) -> list[float]:
        """Mean promise of the message that ends each conversation, in the order of `conversations`."""
        return list(_mean([scorer.score_conversations(conversations) for scorer in self.scorers]))


def _mean(rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Position by position."""
    return tuple(np.mean(np.asarray(rows, np.float64), axis=0).tolist())
