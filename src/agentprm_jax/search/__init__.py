"""Search: collection, Best-of-N and step-level beam search over any environment, actor and scorer."""

from agentprm_jax.search.beam import beam_search
from agentprm_jax.search.best_of_n import best_of_n
from agentprm_jax.search.collect import collect, trajectory_id
from agentprm_jax.search.demonstrate import demonstrate
from agentprm_jax.search.forks import Forked, Prefix, play_forks
from agentprm_jax.search.left_out import EpisodesLeftOut, TasksLeftOut
from agentprm_jax.search.result import SearchResult

__all__ = [
    "EpisodesLeftOut",
    "Forked",
    "Prefix",
    "SearchResult",
    "TasksLeftOut",
    "beam_search",
    "best_of_n",
    "collect",
    "demonstrate",
    "play_forks",
    "trajectory_id",
]
