"""What a search returns: the chosen trajectory, its score and what it cost."""

from __future__ import annotations

from typing import NamedTuple

from agentprm_jax.data.trajectory import Trajectory


class SearchResult(NamedTuple):
    """The answer of a search on one task.

    Attributes:
        trajectory: the path that was chosen.
        score: the scorer's value of its last step.
        sampled_tokens: tokens sampled for the whole search, rejected candidates included.
        scored_actions: actions that the scorer valued.
        environment_steps: steps taken in any copy of the environment.
        unanswered: samples or paths that were given up, because the actor left them without an answer.
    """

    trajectory: Trajectory
    score: float
    sampled_tokens: int
    scored_actions: int
    environment_steps: int
    unanswered: int = 0
