"""Scoring: promise and progress of every step of trajectories, by a trained PRM.

Names are resolved on first use, so that the protocols cost no import of JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentprm_jax.scoring.base import ConversationScorer, Scorer, StepScores
    from agentprm_jax.scoring.mean_scorer import MeanScorer
    from agentprm_jax.scoring.prm import Prm
    from agentprm_jax.scoring.random_scorer import RandomScorer

__all__ = ["ConversationScorer", "MeanScorer", "Prm", "RandomScorer", "Scorer", "StepScores"]

_MODULE_OF = {
    "ConversationScorer": "base",
    "MeanScorer": "mean_scorer",
    "Prm": "prm",
    "RandomScorer": "random_scorer",
    "Scorer": "base",
    "StepScores": "base",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
