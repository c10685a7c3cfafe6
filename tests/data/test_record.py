"""The record refuses what is no trajectory, whoever makes it, and derives what was not given."""

import json

import numpy as np
import pytest
from made_trajectories import trajectory

from agentprm_jax.data.trajectory import ActorInfo, BadTrajectory, Message, RecordedScores, Trajectory


def made(**fields) -> Trajectory:
    body = {
        "messages": [Message("user", "x"), Message("assistant", "y", True)],
        "rewards": [0.5],
        "ended": "terminated",
    }
    return Trajectory(id="i", env="e", task="t", split="s", **{**body, **fields})


def test_the_outcome_is_the_sum_of_the_rewards_unless_it_is_given():
    assert made().outcome == 0.5
    assert made(outcome=0.25).outcome == 0.25


def test_the_sum_of_many_small_rewards_does_not_round_past_one():
    messages = [Message("assistant", "y", True)] * 10
    assert made(messages=messages, rewards=[0.1] * 10).outcome == 1.0


def test_success_is_a_full_outcome_unless_it_is_given():
    assert not made().success
    assert made(rewards=[1.0]).success
    assert made(success=True).success


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"rewards": []}, "rewards"),
        ({"rewards": [0.0, 1.0]}, "rewards"),
        ({"rewards": [float("nan")]}, "rewards[0]"),
        ({"rewards": [True]}, "rewards[0]"),
        ({"rewards": ["1"]}, "rewards[0]"),
        ({"rewards": [1.5]}, "outcome"),
        ({"outcome": -0.1}, "outcome"),
        ({"outcome": float("inf")}, "outcome"),
        ({"success": 1}, "success"),
        ({"ended": "done"}, "ended"),
        ({"messages": [{"role": "user", "content": "x"}]}, "messages[0]"),
        ({"actor": {"name": "x"}}, "actor"),
        ({"scores": {"prm": RecordedScores((0.5, 0.5), (0.0, 0.0))}}, "scores.prm.promise"),
        ({"extra": {"a": [float("nan")]}}, "extra.a[0]"),
        ({"extra": {"a": {"b": np.float32(1)}}}, "extra.a.b"),
        ({"extra": {1: 2}}, "extra (a key)"),
        ({"extra": {"action_loss": [True, False]}}, "extra.action_loss"),
        ({"extra": {"action_loss": [1]}}, "extra.action_loss"),
        ({"extra": {"action_loss": 0.25}}, "extra.action_loss"),
        ({"extra": {"action_cut": [True, False]}}, "extra.action_cut"),
        ({"extra": {"action_cut": "no"}}, "extra.action_cut"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_field(fields, field):
    with pytest.raises(BadTrajectory) as error:
        made(**fields)
    assert error.value.field == field


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Message("tool", "x"), "role"),
        (lambda: Message("user", None), "content"),
        (lambda: Message("user", "lone \ud800"), "content"),
        (lambda: Message("user", "x", True), "action"),
        (lambda: Message("assistant", "x", 1), "action"),
        (lambda: ActorInfo("a", temperature=-1.0), "temperature"),
        (lambda: ActorInfo("a", seed=1.5), "seed"),
        (lambda: ActorInfo("a", sampled_tokens=-1), "sampled_tokens"),
        (lambda: RecordedScores((0.1,), ()), "progress"),
        (lambda: RecordedScores((float("nan"),), (0.0,)), "promise[0]"),
    ],
)
def test_the_parts_of_a_record_refuse_wrong_values_too(make, field):
    with pytest.raises(BadTrajectory) as error:
        make()
    assert error.value.field == field


def test_numbers_of_numpy_become_plain_floats():
    kept = made(rewards=np.array([0.25], np.float32))
    assert kept.rewards == (0.25,)
    assert type(kept.rewards[0]) is float


def test_a_record_does_not_change_with_the_lists_it_was_made_from():
    messages, extra = [Message("assistant", "y", True)], {"list": [1]}
    kept = made(messages=messages, extra=extra)
    messages.append(Message("user", "later"))
    extra["list"].append(2)
    assert len(kept.messages) == 1
    assert kept.extra == {"list": [1]}


def test_the_conversation_up_to_an_action_is_what_the_actor_saw():
    whole = trajectory(steps=3)
    for action in range(3):
        assert whole.conversation(action) == whole.messages[: 2 * action + 1]
    assert whole.conversation() == whole.conversation(3) == whole.messages
    for outside in (-1, 4):
        with pytest.raises(IndexError, match="3 actions"):
            whole.conversation(outside)


def test_an_opening_answer_of_the_assistant_is_no_action():
    opening = (Message("user", "Act."), Message("assistant", "Ok."))
    whole = made(messages=[*opening, Message("user", "x"), Message("assistant", "y", True)])
    assert [message.content for message in whole.actions] == ["y"]
    assert whole.conversation(0) == whole.messages[:3]


def test_every_action_is_imitated_unless_the_record_says_otherwise():
    assert trajectory(steps=2).action_loss == (True, True)
    assert trajectory(steps=2, extra={"action_loss": [True, False]}).action_loss == (True, False)


def test_actions_are_whole_unless_they_are_marked_as_cut_off():
    assert trajectory(steps=2).action_cut == (False, False)
    assert trajectory(steps=2, extra={"action_cut": [True, False]}).action_cut == (True, False)


def test_scores_are_added_to_a_copy_and_checked():
    plain = trajectory(steps=2)
    scored = plain.with_scores("prm", [0.25, 0.5], [0.0, 0.25]).with_scores("orm", [0.5, 0.5], [0.0, 0.0])
    assert plain.scores == {}
    assert scored.scores["prm"].promise == (0.25, 0.5)
    assert set(scored.scores) == {"prm", "orm"}
    with pytest.raises(BadTrajectory, match="scores"):
        plain.with_scores("prm", [0.25], [0.0])


def test_extra_may_be_nested_a_hundred_deep_and_no_deeper():
    def nested(levels):
        return {"more": json.loads("[" * (levels - 1) + "]" * (levels - 1))}

    assert made(extra=nested(100)).extra == nested(100)
    with pytest.raises(BadTrajectory, match="`extra` should be lists and objects nested at most 100 deep, got more"):
        made(extra=nested(101))
