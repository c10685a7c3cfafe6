from __future__ import annotations

from dataclasses import dataclass

import pytest

from agentprm_jax.envs.base import (
    Environment,
    Observation,
    ReplayDiverged,
    check_max_rounds,
    data_index,
    parse_options,
    replay_fork,
    require_running,
)


class Counter(Environment):
    """Counts the actions of an episode, from a number that is the same for all its instances unless they drift."""

    name = "counter"

    def __init__(self, start: int = 0):
        self.count = self.start = start

    def reset(self, task: str) -> Observation:
        self.count = self.start
        return Observation(str(self.count))

    def step(self, action: str) -> Observation:
        self.count += 1
        return Observation(f"{action} {self.count}")

    def fork(self) -> Environment:
        raise NotImplementedError


@dataclass(frozen=True)
class CounterOptions:
    start: int = 0
    speed: int = 1


def test_a_replayed_fork_is_in_the_state_after_the_last_action():
    fork = replay_fork(Counter, "counter_0", ["a", "b"], ["0", "a 1", "b 2"])
    assert fork.step("c").text == "c 3"


def test_a_replay_that_gives_another_text_raises_and_says_where():
    with pytest.raises(ReplayDiverged, match=r"'counter_0' diverged at observation 1: expected 'a 7', got 'a 1'"):
        replay_fork(Counter, "counter_0", ["a", "b"], ["0", "a 7", "b 2"])


def test_a_replay_checks_the_first_observation_too():
    with pytest.raises(ReplayDiverged, match="observation 0"):
        replay_fork(lambda: Counter(5), "counter_0", [], ["0"])


@pytest.mark.parametrize(("task", "index"), [("textcraft_17", 17), ("textcraft_0", 0), ("textcraft_-1", -1)])
def test_data_index_is_the_number_after_the_last_underscore(task, index):
    assert data_index("textcraft", task) == index


@pytest.mark.parametrize(
    "task", ["", "textcraft", "textcraft_", "babyai_3", "textcraft_x", "textcraft_1.5", "x_textcraft_1"]
)
def test_an_id_of_another_form_is_refused_by_name(task):
    with pytest.raises(ValueError, match=f"Unknown task {task!r}: expected an id of the form 'textcraft_<data_idx>'"):
        data_index("textcraft", task)


def test_options_become_the_fields_of_the_dataclass():
    assert parse_options("counter", CounterOptions, {"speed": 3}) == CounterOptions(speed=3)


def test_an_unknown_option_is_named_together_with_the_known_ones():
    with pytest.raises(ValueError, match="'counter' has no option 'sped'; its options are start, speed"):
        parse_options("counter", CounterOptions, {"sped": 3})


@pytest.mark.parametrize("limit", [0, -1])
def test_a_round_limit_below_one_is_refused(limit):
    with pytest.raises(ValueError, match=f"'max_rounds' must be None or at least 1, got {limit}"):
        check_max_rounds(limit)


def test_only_a_started_and_unfinished_episode_can_be_stepped():
    require_running("counter", started=True, ended=False)
    with pytest.raises(RuntimeError, match="'counter' got step before reset"):
        require_running("counter", started=False, ended=False)
    with pytest.raises(RuntimeError, match="The episode of environment 'counter' has ended"):
        require_running("counter", started=True, ended=True)


@pytest.mark.parametrize(("terminated", "truncated", "done"), [(0, 0, False), (1, 0, True), (0, 1, True)])
def test_an_observation_is_done_for_either_reason(terminated, truncated, done):
    assert Observation("", terminated=bool(terminated), truncated=bool(truncated)).done is done


def test_an_environment_lists_no_actions_unless_it_says_so():
    assert Counter().valid_actions() is None
