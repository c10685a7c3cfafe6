import pytest
import search
from measuring import Spent
from search_game import MadeWorld, SearchConfig

SMALL = SearchConfig(models=("small",), nodes=2, candidates=2, steps=3, opening_words=12, observation_words=4, passes=1)


def row(side="whole", tokens=0.1, clock=5.0, difference=1e-6, part="scorer"):
    spent = Spent(1.0, 1.0)
    return search.Row("small", part, side, 100, tokens, spent, [clock] * 3, [clock] * 3, difference)


def passed(*rows):
    return [goal.verdict == "pass" for goal in search.goals(rows)]


def test_each_goal_is_passed_up_to_its_bar_and_missed_beyond_it():
    assert passed(row()) == [True, True, True]
    assert passed(row(tokens=0.201)) == [False, True, True]
    assert passed(row(clock=3.99)) == [True, False, True]
    assert passed(row(difference=1.1e-5)) == [True, True, False]


def test_passes_that_lie_on_both_sides_of_the_bar_decide_nothing():
    uneven = row()._replace(clock=[3.0, 5.0, 6.0])
    assert [goal.verdict for goal in search.goals([uneven])] == ["pass", "**miss** (undecided)", "pass"]


def test_the_actor_is_judged_by_encoding_again_and_its_actions_by_the_same_seeds_in_equal_batches():
    whole, shared = row(part="actor", difference=None), row("shared", clock=3.5, difference=0.0, part="actor")
    assert passed(row("kept"), row("shared"), shared, whole) == [True, True, True]
    assert passed(shared._replace(difference=0.01), whole) == [True, True, False]
    assert "3.50 (3.50 to 3.50)" in search.goals([shared, whole])[1].note


def test_the_made_world_answers_by_all_that_was_said_and_ends_after_so_many_actions():
    worlds = [MadeWorld(SMALL) for _ in range(3)]
    for world in worlds:
        world.reset("made_0")
    fork = worlds[0].fork()
    one, same, other = (world.step(action).text for world, action in zip(worlds, ("a", "a", "b"), strict=True))
    assert one == same == fork.step("a").text != other
    assert len(one.split()) == SMALL.observation_words
    assert [worlds[0].step("c").terminated for _ in range(2)] == [False, True]


@pytest.mark.slow
def test_kept_conversations_cost_fewer_tokens_than_shared_ones_and_those_fewer_than_whole_ones():
    for rows in search.measure_all(SMALL):
        kept, shared, whole = rows
        assert kept.tokens < shared.tokens < whole.tokens
        assert shared.difference < 1e-5
        assert rows[0].part == "actor" or whole.difference < 1e-5
        assert whole.token_ratio == pytest.approx(kept.tokens / whole.tokens)
