"""Laws of pools and of the scores that need no model."""

import numpy as np
import pytest
from made_pool import make_pool, trajectory

from agentprm_jax.numerics.best_of_n import best_of_n_curve
from agentprm_jax.reporting.controls import CONTROLS
from agentprm_jax.reporting.pool import Pool

OUTCOMES = [[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]
LENGTHS = [[2, 4, 3], [5, 1, 4]]
ENDED = [["terminated", "truncated", "terminated"], ["terminated", "truncated", "terminated"]]


def chosen(name, pool):
    return best_of_n_curve(CONTROLS[name](pool), pool.outcomes, [pool.shape[1]])[:, 0].tolist()


def test_tables_have_tasks_in_the_given_order_and_samples_in_the_order_of_their_numbers():
    made = [trajectory("a", 10, ["x"], 0.0), trajectory("b", 0, ["x"], 1.0), trajectory("a", 2, ["x"], 1.0)]
    pool = Pool.of([*made, trajectory("b", 1, ["x", "x"], 0.0)], ["b", "a"])
    assert pool.outcomes.tolist() == [[1.0, 0.0], [1.0, 0.0]]
    assert pool.lengths.tolist() == [[1.0, 2.0], [1.0, 1.0]]


def test_a_random_choice_is_worth_the_mean():
    pool = make_pool(OUTCOMES, LENGTHS)
    assert chosen("random", pool) == pytest.approx([1 / 3, 2 / 3])


def test_length_controls_choose_by_length_and_ending_alone():
    pool = make_pool(OUTCOMES, LENGTHS, ended=ENDED)
    assert chosen("shortest", pool) == [1.0, 1.0]
    assert chosen("longest", pool) == [0.0, 0.0]
    assert chosen("earliest_finish", pool) == [1.0, 1.0]
    assert chosen("any_finish", pool) == [0.5, 0.5]


def test_the_vote_goes_to_the_state_in_which_most_samples_finish():
    finals = [["red", "blue", "red"], ["red", "blue", "blue"]]
    pool = make_pool([[1.0, 0.0, 1.0], [1.0, 0.0, 0.0]], LENGTHS, finals=finals)
    assert chosen("most_frequent_final_state", pool) == [1.0, 0.0]


def test_a_state_of_compact_babyai_is_the_same_whenever_it_was_reached():
    red, blue = "red ball 1 a1 c0 hold nothing", "blue key 1 a2 l1 hold nothing"
    finals = [[f"goal go to red ball t0 {red}", f"t3 {red}", f"t5 no {red}", f"t2 {blue}", f"t2 {blue}"]]
    pool = make_pool([[1.0, 1.0, 1.0, 0.0, 0.0]], [[1, 4, 6, 3, 3]], finals=finals)
    assert chosen("most_frequent_final_state", pool) == [1.0]


def test_samples_that_were_cut_off_have_no_vote():
    finals = [["red", "blue", "blue"]]
    ended = [["terminated", "truncated", "truncated"]]
    pool = make_pool([[1.0, 0.0, 0.0]], [[2, 3, 3]], finals=finals, ended=ended)
    assert chosen("most_frequent_final_state", pool) == [1.0]


def test_unequal_numbers_of_samples_are_refused_with_the_task():
    made = [trajectory("a", 0, ["x"], 0.0), trajectory("a", 1, ["x"], 0.0), trajectory("b", 0, ["x"], 1.0)]
    with pytest.raises(ValueError, match=r"\[1, 2\].*task b"):
        Pool.of(made, ["a", "b"])


def test_a_trajectory_of_another_task_is_refused_with_its_id():
    with pytest.raises(ValueError, match="c/0/0"):
        Pool.of([trajectory("c", 0, ["x"], 0.0)], ["a"])


def test_tokens_are_those_of_the_actor():
    assert np.all(make_pool(OUTCOMES, LENGTHS).sampled_tokens == 7)
