from __future__ import annotations

import random

import pytest
from minigrid.core.world_object import Ball, Door
from minigrid.envs.babyai.core.verifier import BeforeInstr, ObjDesc, OpenInstr

from agentprm_jax.envs import make_env
from agentprm_jax.envs.babyai import level_tasks

COMPLETED = "\n The task is completed."
FORMS = [{"form": form, "text": text} for form in ("agentgym", "declared") for text in ("agentgym", "compact")]


def started(task, actions=(), **options):
    env = make_env("babyai", **options)
    env.reset(task)
    for action in actions:
        env.step(action)
    return env


def without_actions(text):
    return text.split("\nAvailable actions:")[0]


# Level 13, seed 0, asks to open the red door one step ahead on the left.
OPEN_RED_DOOR = "babyai_12"
THROUGH = "toggle and go through red closed door 1"
# Level 4, seed 0, has a blue key ahead on the right and at most 16 moves.
BLUE_KEY = "babyai_3"
# Level 20, seed 0, is strict: a wrong thing picked up is a failure.
STRICT = level_tasks(["PickupDistDebug"], [0])[0]


def test_a_goal_within_a_macro_is_lost_as_in_agentgym():
    got = started(OPEN_RED_DOOR).step(THROUGH)
    assert (got.reward, got.done) == (0, False)


def test_a_goal_within_a_macro_is_paid_without_that_quirk():
    env = started(OPEN_RED_DOOR, lose_reward_within_macro=False)
    got = env.step(THROUGH)
    assert got.terminated
    assert got.reward > 0.9
    assert COMPLETED in got.text


def late_success(**options):
    return started(BLUE_KEY, ["turn left"] * 8, **options)


def test_a_success_of_half_or_less_goes_on_and_is_paid_again_in_idle_rounds():
    env = late_success()
    first, idle = env.step("go to blue key 1"), env.step("fly")
    assert COMPLETED in first.text
    assert 0 < first.reward <= 0.5
    assert not first.done
    assert idle.reward == first.reward
    assert idle.info["score"] == 2 * first.reward


def test_a_success_of_half_or_less_ends_the_episode_without_that_quirk():
    assert late_success(reopen_below_half=False).step("go to blue key 1").terminated


def test_idle_rounds_pay_nothing_without_that_quirk():
    env = late_success(repeat_stale_reward=False)
    score = env.step("go to blue key 1").info["score"]
    assert env.step("fly").reward == 0
    assert env.step("check available actions").info["score"] == score


def test_the_levels_own_limit_truncates_only_without_that_quirk():
    assert not started(BLUE_KEY, ["turn left"] * 15).step("turn left").done
    assert started(BLUE_KEY, ["turn left"] * 15, ignore_max_steps=False).step("turn left").truncated


def wrong_pickup(**options):
    env = started(STRICT, **options)
    mission = env.progress.mission.first[0]
    right = {f"{mission.things[0].color} {mission.things[0].type}"}
    wrong = next(a for a in env.valid_actions() if a.startswith("pickup") and a[7:-2] not in right)
    return env, env.step(wrong)


def test_a_failure_is_announced_as_completed_and_the_episode_goes_on():
    env, got = wrong_pickup()
    assert COMPLETED in got.text
    assert (got.reward, got.done) == (0, False)
    assert not env.step("drop").done


def test_a_failure_ends_silently_without_those_quirks():
    _, got = wrong_pickup(continue_after_failure=False, announce_failure=False)
    assert COMPLETED not in got.text
    assert (got.reward, got.terminated) == (0, True)


def test_order_is_lost_in_agentgyms_goal_only():
    task = level_tasks(["OpenDoorsOrderN4Debug"], [1])[0]
    assert started(task).world.level.mission == "open the yellow door, then open the green door"
    goals = [make_env("babyai", **options).reset(task).text.split("\n")[0] for options in ({}, {"form": "declared"})]
    assert goals == [
        "Your goal: open the yellow door, and open the green door",
        "Your goal: open the yellow door, then open the green door",
    ]
    assert " then " in make_env("babyai", blur_order=False).reset(task).text


@pytest.mark.parametrize("options", FORMS)
def test_the_sum_of_rewards_is_the_outcome_and_episodes_end_once(options):
    env, rng = make_env("babyai", max_rounds=12, **options), random.Random(0)
    for task in level_tasks(["GoToLocalS8N7", "ActionObjDoor", "GoToObjS6"], range(8)):
        got = env.reset(task)
        total, rounds = 0.0, 0
        while not got.done:
            got = env.step(rng.choice(env.valid_actions()))
            total, rounds = total + got.reward, rounds + 1
        assert got.terminated != got.truncated
        assert rounds <= 12
        if options["form"] == "agentgym":
            assert total == got.info["score"]
        else:
            assert total == float(got.terminated and got.info["goal"])
        with pytest.raises(RuntimeError, match="ended"):
            env.step("turn left")


def test_declared_form_neither_ends_nor_announces_nor_pays_before_finish():
    env = started("babyai_0", form="declared")
    got = env.step("go to red ball 1")
    assert (got.reward, got.done, got.info["goal"]) == (0, False, True)
    assert COMPLETED not in got.text
    end = env.step("finish")
    assert (end.reward, end.terminated) == (1, True)


def test_finish_pays_for_what_holds_at_that_moment_only():
    assert started("babyai_0", form="declared").step("finish").reward == 0
    env = started("babyai_0", ["go to red ball 1", "turn left"], form="declared")
    end = env.step("finish")
    assert (end.reward, end.terminated) == (0, True)


def test_the_farewell_does_not_tell_the_outcome():
    for options in FORMS[2:]:
        there = "go red ball 1" if options["text"] == "compact" else "go to red ball 1"
        assert (
            started("babyai_0", [there], **options).step("finish").text
            == started("babyai_0", **options).step("finish").text
        )


def test_finish_on_the_last_round_is_a_verdict_and_anything_else_a_truncation():
    env = started("babyai_0", ["go to red ball 1"], form="declared", max_rounds=2)
    fork = env.fork()
    assert env.step("finish").reward == 1
    last = fork.step("turn left")
    assert (last.reward, last.terminated, last.truncated) == (0, False, True)


def test_finish_is_an_action_of_the_declared_form_only():
    assert "finish" not in started("babyai_0").valid_actions()
    assert "not recognized" in started("babyai_0").step("finish").text
    env = started("babyai_0", form="declared")
    assert env.valid_actions()[-1] == "finish"
    assert env.step("turn left").text.endswith('"finish"]')


@pytest.mark.parametrize("options", FORMS)
def test_a_fork_goes_on_as_its_original_would_and_neither_disturbs_the_other(options):
    for task in level_tasks(["ActionObjDoor", "SynthSeq", "UnlockPickupDist"], [2, 3]):
        env, rng = started(task, **options), random.Random(task)
        for _ in range(6):
            if env.step(rng.choice([a for a in env.valid_actions() if a != "finish"])).done:
                break
        else:
            forks = [env.fork(), env.fork(), env]
            actions = []
            for _ in range(10):
                action = rng.choice([a for a in forks[0].valid_actions() if a != "finish"])
                actions.append((action, forks[0].step(action)))
                if actions[-1][1].done:
                    break
            for other in forks[1:]:
                assert [(action, other.step(action)) for action, _ in actions] == actions


def test_a_fork_of_an_environment_without_episode_can_be_reset():
    env = make_env("babyai")
    assert env.fork().reset("babyai_5").text == env.reset("babyai_5").text


def test_reset_gives_the_same_episode_each_time():
    env = make_env("babyai")
    first = env.reset("babyai_47")
    env.step("turn left")
    assert env.reset("babyai_47") == first


def test_strict_order_makes_an_early_second_part_a_failure_for_good(babyai_env):
    def run(**options):
        mission = BeforeInstr(OpenInstr(ObjDesc("door", "red")), OpenInstr(ObjDesc("door", "blue")))
        env = babyai_env({(3, 4): Door("blue"), (4, 5): Door("red")}, mission, form="declared", **options)
        for action in ("toggle", "turn right", "toggle", "turn left", "toggle", "toggle"):
            assert env.step(action).info["valid"]
        return env.step("finish").reward

    assert (run(), run(strict_order=True)) == (1, 0)


def test_an_impossible_action_is_marked_as_not_valid():
    env = started("babyai_0")
    assert not env.step("fly").info["valid"]
    assert env.step("go to red ball 1").info["valid"]


def test_stepping_before_reset_is_refused():
    with pytest.raises(RuntimeError, match="before reset"):
        make_env("babyai").step("turn left")


@pytest.mark.parametrize(
    ("options", "named"),
    [({"form": "x"}, "form"), ({"text": "x"}, "text"), ({"max_rounds": 0}, "max_rounds"), ({"x": 1}, "x")],
)
def test_a_wrong_option_is_named(options, named):
    with pytest.raises(ValueError, match=f"'{named}'"):
        make_env("babyai", **options)


def test_what_is_carried_is_told_and_not_listed(babyai_env):
    env = babyai_env({(3, 3): Ball("red")})
    text = without_actions(env.step("pickup red ball 1").text)
    assert text.endswith("You are carrying a red ball.")
    assert "There is a red ball" not in text
