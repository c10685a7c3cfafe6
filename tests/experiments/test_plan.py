"""Laws of quickstart's plan and of the experiments' configs."""

import dataclasses

import pytest
from collect import CollectConfig
from presets import FIRST_SEED, PRESETS
from quickstart import collect_configs, evaluation, plan, prm_configs, sft_configs

from agentprm_jax.envs.config import EnvironmentConfig, TaskConfig
from agentprm_jax.envs.tasks import compact_vocabulary, list_tasks


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_has_a_plan_in_which_everything_needed_comes_before(name):
    known = set()
    for job in plan(PRESETS[name]):
        assert known.issuperset(job.needs)
        known.add(job.name)
    assert len(prm_configs(PRESETS[name])) == len(PRESETS[name].methods) * PRESETS[name].prm_seeds


@pytest.mark.parametrize("shown", [0, 50])
def test_a_trunk_learns_from_demonstrations_of_its_own_where_there_are_some(shown):
    config = dataclasses.replace(PRESETS["smoke"], trunk_demonstrations=shown)
    jobs = {job.name: job for job in plan(config)}
    source = "trunk-demonstrations" if shown else "demonstrations"
    assert jobs["trunk"].needs == (source,)
    assert jobs["actor"].needs == ("demonstrations",)
    assert jobs["trunk"].arguments[0].trajectories.parent == config.output / source
    assert ("trunk-demonstrations" in jobs) == (shown > 0)
    shows = [job.arguments[0] for name, job in jobs.items() if name.endswith("demonstrations")]
    assert [(show.tasks.count, show.disturbed, show.disturbance) for show in shows] == [
        (200, 0.75, 0.2),
        (50, 0.9, 0.4),
    ][: len(shows)]


def test_prms_have_the_extra_blocks_that_the_preset_says():
    for blocks in (0, 2):
        config = dataclasses.replace(PRESETS["smoke"], prm_extra_blocks=blocks)
        assert {prm.extra_blocks for prm in prm_configs(config).values()} == {blocks}


@pytest.mark.parametrize("name", ["default", "full"])
def test_no_task_is_in_two_splits(name):
    config = PRESETS[name]
    counts = {"test": config.test_tasks, "development": config.test_tasks}
    shown = max(config.demonstrations, config.trunk_demonstrations)
    counts |= {"demonstrations": shown, "train": config.train_tasks}
    assert counts.keys() == FIRST_SEED.keys()
    tasks = [task for split, count in counts.items() for task in list_tasks("babyai", config.tasks(split, count))]
    assert len(tasks) == len(set(tasks)) == sum(counts.values())


@pytest.mark.parametrize("test_split", ["test", "development"])
@pytest.mark.parametrize("name", sorted(PRESETS))
def test_no_task_that_is_reported_is_trained_on_or_demonstrated(name, test_split):
    config = dataclasses.replace(PRESETS[name], test_split=test_split)
    played = {job: set(list_tasks(c.environment.name, c.tasks)) for job, c in collect_configs(config).items()}
    reported = set(list_tasks(config.environment.name, evaluation(config).tasks))
    assert played["pool"] == played["greedy"] == played["expert"] == reported
    others = [tasks for job, tasks in played.items() if job == "train" or job.endswith("demonstrations")]
    assert len(others) == 2 + (config.trunk_demonstrations > 0)
    assert all(reported.isdisjoint(tasks) for tasks in others)
    assert evaluation(config).tasks.split == test_split


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_development_tasks_are_no_test_tasks(name):
    test, development = (
        set(list_tasks(config.environment.name, evaluation(config).tasks))
        for config in (dataclasses.replace(PRESETS[name], test_split=split) for split in ("test", "development"))
    )
    assert development.isdisjoint(test)


def test_textcraft_is_tuned_on_the_last_74_training_tasks_after_training_on_the_first_300():
    config = dataclasses.replace(PRESETS["textcraft"], test_split="development")
    played = {job: list_tasks("textcraft", c.tasks) for job, c in collect_configs(config).items()}
    everything = list_tasks("textcraft", TaskConfig(split="train"))
    assert (played["train"], played["pool"]) == (everything[:300], everything[300:])
    assert played["demonstrations"] == everything[:300]


def test_what_is_published_of_textcraft_was_trained_on_the_whole_split_and_tested_on_the_whole_split():
    played = {job: list_tasks("textcraft", c.tasks) for job, c in collect_configs(PRESETS["textcraft"]).items()}
    for job, split in (("train", "train"), ("demonstrations", "train"), ("pool", "test")):
        assert played[job] == list_tasks("textcraft", TaskConfig(split=split))


def test_agentgyms_babyai_tasks_are_tuned_on_apart_from_training_too():
    config = dataclasses.replace(PRESETS["smoke"], levels=(), test_split="development", train_tasks=10_000)
    played = {job: list_tasks("babyai", c.tasks) for job, c in collect_configs(config).items()}
    assert (len(played["train"]), len(played["pool"])) == (720, 20)
    assert set(played["pool"]).isdisjoint(played["train"])


def test_a_split_that_is_not_for_reporting_is_refused():
    with pytest.raises(ValueError, match="test_split must be test or development, got 'tset'"):
        dataclasses.replace(PRESETS["default"], test_split="tset")


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
