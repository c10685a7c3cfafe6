from __future__ import annotations

import subprocess
import sys

import pytest

from agentprm_jax.envs import ENVIRONMENTS, Environment, make_env, task_ids


def test_a_made_environment_has_the_name_of_its_task_ids():
    env = make_env("textcraft")
    assert isinstance(env, Environment)
    assert env.name == "textcraft"
    assert all(task.startswith("textcraft_") for task in task_ids("textcraft", "test"))


def test_options_reach_the_environment():
    assert make_env("textcraft", max_rounds=1, form="declared").reset("textcraft_0").text


def test_an_unknown_environment_is_refused_and_the_known_ones_are_named():
    for call in (lambda: make_env("minecraft"), lambda: task_ids("minecraft", "test")):
        with pytest.raises(ValueError, match="Unknown environment 'minecraft'; the environments are textcraft, babyai"):
            call()


def test_an_unknown_split_is_refused_and_the_known_ones_are_named():
    with pytest.raises(ValueError, match="TextCraft has no split 'validation'; its splits are train, test"):
        task_ids("textcraft", "validation")


def test_an_unknown_option_is_refused_and_the_known_ones_are_named():
    with pytest.raises(ValueError, match=r"'textcraft' has no option 'rounds'; its options are form, .*max_rounds"):
        make_env("textcraft", rounds=3)


def test_importing_the_room_imports_neither_an_environment_nor_jax():
    modules = ["jax", "gymnasium", *ENVIRONMENTS.values()]
    code = f"import sys, agentprm_jax.envs; print([name for name in {modules} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
