"""The task ids of a task config, and the words of an environment's compact language."""

from __future__ import annotations

from agentprm_jax.envs.config import EnvironmentConfig, TaskConfig
from agentprm_jax.envs.registry import task_ids


def list_tasks(environment: str, tasks: TaskConfig) -> list[str]:
    """The task ids, in a fixed order.

    Raises:
        ValueError: the environment has no levels, fewer tasks than asked for, or an unknown level or split.
    """
    found = _level_tasks(environment, tasks) if tasks.levels else task_ids(environment, tasks.split)
    if tasks.count is not None and tasks.count > len(found):
        raise ValueError(
            f"The split {tasks.split!r} of {environment} has {len(found)} tasks, but {tasks.count} are wanted."
        )
    return found[: tasks.count]


def compact_vocabulary(environment: EnvironmentConfig) -> tuple[str, ...]:
    """Every word that a conversation in compact text can hold.

    Raises:
        ValueError: the text is not compact, so that its vocabulary is not closed.
    """
    if environment.text != "compact":
        raise ValueError(
            f"A word-level vocabulary needs compact text, but {environment.name} is played in {environment.text} text: "
            "start from a pretrained model, or set the text to compact."
        )
    if environment.name == "babyai":
        from agentprm_jax.envs.babyai_compact import COMPACT_WORDS

        return COMPACT_WORDS
    from agentprm_jax.envs.textcraft_compact import compact_words

    return tuple(compact_words())


def _level_tasks(environment: str, tasks: TaskConfig) -> list[str]:
    if environment != "babyai":
        raise ValueError(f"Only babyai has levels, but levels {tasks.levels} were given for {environment}.")
    from agentprm_jax.envs.babyai import level_tasks

    seeds = -(-(tasks.count or 0) // len(tasks.levels))
    return level_tasks(tasks.levels, range(tasks.first_seed, tasks.first_seed + seeds))
