"""Text environments for agents: one protocol, several worlds."""

from agentprm_jax.envs.base import Environment, Observation, ReplayDiverged
from agentprm_jax.envs.registry import ENVIRONMENTS, make_env, task_ids

__all__ = ["ENVIRONMENTS", "Environment", "Observation", "ReplayDiverged", "make_env", "task_ids"]
