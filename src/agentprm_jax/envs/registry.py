"""Environments by name; each one's module is imported when it is first made, so that its packages stay optional."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

from agentprm_jax.envs.base import Environment

ENVIRONMENTS = {
    "textcraft": "agentprm_jax.envs.textcraft",
    "babyai": "agentprm_jax.envs.babyai",
}
"""Environment name to the module that has its `make(**options)` and `task_ids(split)`."""


def make_env(name: str, **options: Any) -> Environment:
    """Makes the environment `name`.

    Args:
        name: A key of `ENVIRONMENTS`.
        **options: Options of that environment; the options class in its module lists them. All have `form`
            (`"agentgym"` or `"declared"`) and `max_rounds`.

    Raises:
        ValueError: The environment or an option is unknown, or an option's value is refused.
    """
    return _module(name).make(**options)


def task_ids(name: str, split: str) -> list[str]:
    """Returns the task ids `<name>_<data_idx>` of a split.

    Args:
        name: A key of `ENVIRONMENTS`.
        split: `"train"`, `"test"`, or `"development"`: the last tasks of `"train"`, kept for tuning.

    Raises:
        ValueError: The environment or the split is unknown.
    """
    return _module(name).task_ids(split)


def _module(name: str) -> ModuleType:
    if name not in ENVIRONMENTS:
        raise ValueError(f"Unknown environment {name!r}; the environments are {', '.join(ENVIRONMENTS)}.")
    return import_module(ENVIRONMENTS[name])
