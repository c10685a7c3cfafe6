"""Laws of step-level beam search."""

import pytest
from line_world import CrampedActor, CyclingActor, FailingActor, GoalScorer, LineWorld

from agentprm_jax.actors import ActorUnavailable
from agentprm_jax.scoring.random_scorer import RandomScorer
from agentprm_jax.search import TasksLeftOut, beam_search
from agentprm_jax.search.seeding import stable_seed

TASKS = ["line_1", "line_2", "line_3"]


def search(scorer=None, *, tasks=TASKS, nodes=2, candidates=4, **options):
    settings = {"make_environment": LineWorld, "actor": CyclingActor(), "temperature": 1.0, "seed": 0}
    return beam_search(
        tasks, scorer=scorer or GoalScorer(), nodes=nodes, candidates=candidates, **{**settings, **options}
    )


def test_with_the_true_value_every_task_is_solved_on_the_shortest_path():
    for task, result in zip(TASKS, search(), strict=True):
        assert result.trajectory.task == task
        assert result.trajectory.outcome == 1.0
        assert len(result.trajectory.rewards) == int(task[-1]) + 1


def test_the_result_has_the_score_of_its_last_step():
    for result in search():
        assert result.score == GoalScorer().score_conversations([result.trajectory.messages])[0]


def test_results_do_not_depend_on_how_many_tasks_are_searched_together():
    together, alone = search(concurrency=1024), search(concurrency=1)
    assert [(r.trajectory.messages, r.score, r.sampled_tokens) for r in together] == [
        (r.trajectory.messages, r.score, r.sampled_tokens) for r in alone
    ]


def test_the_first_round_draws_nodes_times_candidates_proposals_and_later_ones_candidates_a_node():
    actor = CyclingActor()
    search(tasks=["line_3"], actor=actor, nodes=2, candidates=4)
    assert actor.calls[0] == (1, 8)
    assert all(samples == 4 and conversations <= 2 for conversations, samples in actor.calls[1:])


def test_equal_proposals_of_a_node_are_scored_and_taken_once():
    result = search(tasks=["line_3"], nodes=2, candidates=8)[0]
    # Four different actions a node: at most 4 + 2 * 4 a round, although 16 are drawn for each.
    rounds = len(result.trajectory.rewards)
    assert result.scored_actions <= 4 + 8 * (rounds - 1) + 8 * (6 - rounds)
    assert result.environment_steps <= 2 * 6


def test_every_sampled_token_is_counted_rejected_candidates_included():
    result = search(tasks=["line_1"], nodes=1, candidates=4)[0]
    # One node: every round samples 4 actions of 2 tokens until the path ends.
    assert result.sampled_tokens == 4 * 2 * len(result.trajectory.rewards)


def test_a_path_says_which_of_its_actions_the_token_limit_cut_off():
    for result in search(max_tokens=1):
        assert result.trajectory.action_cut == (True,) * len(result.trajectory.actions)


def test_a_proposal_that_was_said_whole_once_is_whole():
    class OftenCut(CyclingActor):
        def act(self, conversations, **options):
            answers = super().act(conversations, **options)
            return [[a._replace(complete=0 < k < 5) for k, a in enumerate(actions)] for actions in answers]

    (result,) = search(tasks=["line_1"], actor=OftenCut(), candidates=8)
    assert result.trajectory.extra == {}


def test_a_finished_path_keeps_its_score_and_competes_in_the_final_choice():
    class FinishLooksWorst(GoalScorer):
        def _value(self, messages):
            actions = [message.content for message in messages if message.role == "assistant"]
            return -1.0 if actions[-1] == "finish" else float(len(actions))

    result = search(FinishLooksWorst(), tasks=["line_1"], nodes=4, candidates=4)[0]
    assert result.trajectory.ended == "truncated"
    preferring = search(FinishLooksWorst(), tasks=["line_1"], nodes=4, candidates=4, finished_first=True)[0]
    assert preferring.trajectory.ended == "terminated"


def test_random_scores_are_a_function_of_seed_and_conversation():
    first, again, other = (search(RandomScorer(seed)) for seed in (1, 1, 2))
    assert [r.score for r in first] == [r.score for r in again]
    assert [r.score for r in first] != [r.score for r in other]
    assert all(0.0 <= r.score < 1.0 for r in first)


@pytest.mark.parametrize("size", [{"nodes": 0}, {"candidates": 0}, {"attempts": 0}])
def test_a_beam_without_nodes_candidates_or_attempts_is_refused(size):
    with pytest.raises(ValueError, match="N >= 1, M >= 1 and attempts >= 1"):
        search(**size)


def test_searches_with_different_scorers_draw_the_same_proposals_after_the_same_path():
    one, other = CyclingActor(), CyclingActor()
    search(GoalScorer(), actor=one)
    search(RandomScorer(1), actor=other)
    shared = one.seeds.keys() & other.seeds.keys()
    assert any(len(path) > 1 for path in shared)
    assert all(one.seeds[path] == other.seeds[path] for path in shared)


def test_a_path_that_outgrows_the_actors_context_ends_there_and_the_others_go_on():
    results = search(actor=CyclingActor(most_messages=3))
    assert [r.trajectory.outcome for r in results] == [1.0, 0.0, 0.0]
    assert all(len(r.trajectory.actions) <= 2 for r in results)
    cut = results[2]
    assert (cut.trajectory.ended, len(cut.trajectory.actions)) == ("truncated", 2)
    assert cut.trajectory.extra == {"ended_by": "context"}
    assert cut.score == GoalScorer().score_conversations([cut.trajectory.messages])[0]


def test_seeds_are_a_fixed_function_of_their_names():
    assert stable_seed("beam", 0, "line_1") == stable_seed("beam", 0, "line_1") == 782103243
    assert stable_seed("a", "bc") != stable_seed("ab", "c")


def test_a_path_without_an_answer_is_asked_about_again_and_found_as_if_nothing_had_failed():
    failing = FailingActor(lambda goal, length, number: goal == 1 and number == 1)
    found, usual = search(actor=failing, attempts=2), search()
    assert [(r.trajectory.messages, r.score) for r in found] == [(r.trajectory.messages, r.score) for r in usual]


class RefusingActor(CyclingActor):
    """Gives no answer after a path that begins with one of some actions."""

    def __init__(self, *firsts):
        super().__init__()
        self.firsts = firsts

    def act(self, conversations, **options):
        answers = super().act(conversations, **options)
        begun = [messages[1].content if len(messages) > 1 else None for messages in conversations]
        if lost := [place for place, first in enumerate(begun) if first in self.firsts]:
            raise ActorUnavailable(lost, "answered 400: no such talk here")
        return answers


@pytest.mark.parametrize("first", ["right", "stay"])
def test_a_path_that_is_always_refused_is_given_up_and_counted_and_the_others_go_on(first):
    result = search(tasks=["line_1"], actor=RefusingActor(first))[0]
    assert (result.unanswered, result.trajectory.outcome) == (1, 1.0)
    assert result.trajectory.actions[0].content != first
    assert all(r.unanswered == 0 for r in search())


@pytest.mark.parametrize("concurrency", [1, 1024])
def test_a_task_without_any_answer_has_no_result_and_the_others_have_theirs(concurrency):
    failing = FailingActor(lambda goal, length, number: goal == 2)
    with pytest.raises(TasksLeftOut, match=r"1 of 3 tasks have no result.*: line_2\..*1 got no answer") as caught:
        search(actor=failing, attempts=3, concurrency=concurrency)
    assert failing.asked[stable_seed("beam", 0, "line_2")] == 3
    assert caught.value.failures.keys() == {"line_2"}
    one, _, three = search()
    assert caught.value.results == [one, three]


@pytest.mark.parametrize("concurrency", [1, 1024])
@pytest.mark.parametrize("goal", [1, 3])
def test_a_task_whose_opening_has_no_room_has_no_result_and_the_others_have_theirs(goal, concurrency):
    with pytest.raises(TasksLeftOut, match=r"Conversation [02] is too long") as caught:
        search(actor=CrampedActor(goal), concurrency=concurrency)
    assert caught.value.failures.keys() == {f"line_{goal}"}
    assert caught.value.results == [result for result in search() if result.trajectory.task != f"line_{goal}"]


def test_an_actor_that_never_answers_ends_the_search_after_the_attempts_on_the_first_tasks():
    failing = FailingActor(lambda goal, length, number: True)
    with pytest.raises(ActorUnavailable, match="1 got no answer"):
        search(actor=failing, attempts=2, concurrency=1)
    assert list(failing.asked.values()) == [2]
