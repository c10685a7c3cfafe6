"""Laws of quickstart's plan and of the experiments' configs."""

import dataclasses

import pytest
from collect import CollectConfig
from presets import FIRST_SEED, PRESETS
from quickstart import plan, prm_configs, sft_configs

from agentprm_jax.envs.config import EnvironmentConfig, TaskConfig
from agentprm_jax.envs.tasks import compact_vocabulary, list_tasks


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_has_a_plan_in_which_everything_needed_comes_before(name):
    known = set()
    for job in plan(PRESETS[name]):
        assert known.issuperset(job.needs)
        known.add(job.name)
    assert len(prm_configs(PRESETS[name])) == len(PRESETS[name].methods) * PRESETS[name].prm_seeds


@pytest.mark.parametrize("name", ["default", "full"])
def test_no_task_is_in_two_splits(name):
    config = PRESETS[name]
    counts = {"test": config.test_tasks, "development": config.test_tasks}
    counts |= {"demonstrations": config.demonstrations, "train": config.train_tasks}
    assert counts.keys() == FIRST_SEED.keys()
    tasks = [task for split, count in counts.items() for task in list_tasks("babyai", config.tasks(split, count))]
    assert len(tasks) == len(set(tasks)) == sum(counts.values())


def test_levels_take_turns_so_that_any_count_mixes_them_evenly():
    levels = ("PickupLoc", "GoToLocalS8N7")
    first = list_tasks("babyai", TaskConfig(levels=levels, count=4))
    assert first == list_tasks("babyai", TaskConfig(levels=levels, count=6))[:4]
    assert len({int(task.split("_")[1]) % 40 for task in first}) == 2


def test_more_tasks_than_a_split_has_are_refused():
    with pytest.raises(ValueError, match="has 100 tasks, but 101"):
        list_tasks("textcraft", TaskConfig(split="test", count=101))


def test_levels_without_a_count_and_levels_of_another_environment_are_refused():
    with pytest.raises(ValueError, match="count must be given"):
        TaskConfig(levels=("PickupLoc",))
    with pytest.raises(ValueError, match="Only babyai has levels"):
        list_tasks("textcraft", TaskConfig(levels=("PickupLoc",), count=1))


def test_only_compact_text_has_a_closed_vocabulary():
    assert "finish" in compact_vocabulary(EnvironmentConfig())
    assert "finish" in compact_vocabulary(EnvironmentConfig(name="textcraft"))
    with pytest.raises(ValueError, match="compact"):
        compact_vocabulary(EnvironmentConfig(text="agentgym"))


def test_configs_are_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        CollectConfig("expert", None).samples = 2  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_models_have_positions_for_every_episode_of_their_preset(preset):
    config = PRESETS[preset]
    for run in sft_configs(config).values():
        assert config.model or run.model.max_positions >= config.sampler.capacity
    for prm in prm_configs(config).values():
        assert prm.row_length >= config.sampler.capacity
