"""Scoring: promise and progress of every step of a trajectory, and of actions that search has not taken yet."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from agentprm_jax.scoring.base import ConversationScorer, Scorer, StepScores

if TYPE_CHECKING:
    from agentprm_jax.scoring.prm import Prm
    from agentprm_jax.scoring.random_scorer import RandomScorer

__all__ = ["ConversationScorer", "Prm", "RandomScorer", "Scorer", "StepScores"]

_HOMES = {"Prm": "prm", "RandomScorer": "random_scorer"}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first asked for, so that the protocols cost no import of JAX."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
