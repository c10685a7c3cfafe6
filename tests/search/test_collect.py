"""Laws of collection, Best-of-N and demonstrations."""

import pytest
from line_world import CrampedActor, CyclingActor, FailingActor, GoalScorer, LineWorld

from agentprm_jax.actors import ActorRefused, ActorUnavailable
from agentprm_jax.scoring.base import StepScores
from agentprm_jax.search import EpisodesLeftOut, TasksLeftOut, best_of_n, collect, demonstrate, trajectory_id
from agentprm_jax.search.episode import Episode, ask

TASKS = [f"line_{goal}" for goal in (1, 2, 3, 4)]


def gather(**options):
    settings = {"make_environment": LineWorld, "actor": CyclingActor(), "samples": 5, "temperature": 1.0, "seed": 3}
    return list(collect(TASKS, **{**settings, **options}))


class StepScorer:
    def score(self, trajectories):
        return [
            StepScores(
                tuple(
                    GoalScorer().score_conversations([[*t.conversation(step), t.actions[step]]])[0]
                    for step in range(len(t.rewards))
                ),
                (0.0,) * len(t.rewards),
            )
            for t in trajectories
        ]


class LineExpert:
    def act_in(self, environment):
        if environment.place == environment.goal:
            return "finish"
        return "right" if environment.place < environment.goal else "left"


def test_every_task_gets_its_number_of_trajectories_with_ids_of_their_own():
    found = gather()
    assert sorted(t.id for t in found) == sorted(trajectory_id(task, k, 3) for task in TASKS for k in range(5))


def test_a_trajectory_does_not_depend_on_how_many_are_in_flight():
    assert sorted(gather(concurrency=1), key=lambda t: t.id) == sorted(gather(concurrency=64), key=lambda t: t.id)


def test_leaving_out_what_is_done_gives_exactly_the_rest():
    everything = {t.id: t for t in gather()}
    done = set(list(everything)[::3])
    rest = gather(done=done)
    assert {t.id for t in rest} == everything.keys() - done
    assert all(everything[t.id] == t for t in rest)


def test_an_episode_that_outgrows_the_actors_context_is_truncated_and_the_others_are_as_before():
    everything, cut = ({t.id: t for t in gather(actor=CyclingActor(most))} for most in (100, 5))
    assert everything.keys() == cut.keys()
    for identifier, trajectory in cut.items():
        if len(everything[identifier].actions) <= 3:
            assert trajectory == everything[identifier]
        else:
            assert (trajectory.ended, len(trajectory.actions), trajectory.outcome) == ("truncated", 3, 0.0)
            assert trajectory.extra == {"ended_by": "context"}
    assert all(t.extra == {} for t in everything.values())
    assert any(t.ended == "truncated" for t in everything.values())
    assert {len(t.actions) for t in everything.values()} > {4}


@pytest.mark.parametrize("concurrency", [1, 3, 64])
@pytest.mark.parametrize("goal", [1, 4])
def test_only_a_task_whose_opening_has_no_room_is_left_out_and_counted_at_the_end(goal, concurrency):
    found = []
    settings = {"samples": 5, "temperature": 1.0, "seed": 3, "make_environment": LineWorld}
    with pytest.raises(EpisodesLeftOut, match=r"5 episodes were left out, because not even .* is too long") as caught:
        found.extend(collect(TASKS, actor=CrampedActor(goal), concurrency=concurrency, **settings))
    assert by_id(found) == by_id(t for t in gather() if t.task != f"line_{goal}")
    assert set(caught.value.ids) == {t.id for t in gather()} - {t.id for t in found}


def by_id(trajectories):
    return sorted(trajectories, key=lambda trajectory: trajectory.id)


@pytest.mark.parametrize("concurrency", [1, 3, 64])
def test_an_episode_without_an_answer_is_started_anew_and_nothing_else_changes(concurrency):
    actor = FailingActor(lambda goal, messages, number: goal == 2 and messages == 3 and number == 1)
    assert by_id(gather(actor=actor, concurrency=concurrency)) == by_id(gather())
    assert max(actor.asked.values()) > 1


def test_an_episode_that_never_gets_an_answer_is_left_out_and_counted_at_the_end():
    actor = FailingActor(lambda goal, messages, number: goal == 2 and messages == 3)
    found = []
    playing = collect(TASKS, make_environment=LineWorld, actor=actor, samples=5, temperature=1.0, seed=3, attempts=2)
    with pytest.raises(EpisodesLeftOut, match=r"left out after 2 attempts each.*got no answer") as caught:
        found.extend(playing)
    everything = gather()
    assert by_id(found) == by_id(t for t in everything if t.id not in caught.value.ids)
    assert set(caught.value.ids) == {t.id for t in everything if t.task == "line_2" and len(t.actions) > 1}
    assert by_id(gather(done={t.id for t in found})) == by_id(t for t in everything if t.id in caught.value.ids)


def test_an_actor_that_never_answers_ends_the_collection_after_the_attempts_of_the_first_episodes():
    actor = FailingActor(lambda goal, messages, number: True)
    with pytest.raises(ActorUnavailable, match="4 got no answer"):
        gather(actor=actor, concurrency=4, attempts=2)
    assert len(actor.asked) == 4
    assert set(actor.asked.values()) == {2}


def test_an_actor_that_refuses_everybody_ends_the_collection_at_once():
    class Refusing(CyclingActor):
        def act(self, conversations, **options):
            raise ActorRefused("wrong key")

    with pytest.raises(ActorRefused, match="wrong key"):
        gather(actor=Refusing())


def test_long_conversations_beside_unanswered_ones_end_as_they_would_alone():
    actor = FailingActor(lambda goal, messages, number: goal == 3 and messages == 5 and number == 1, most_messages=5)
    assert by_id(gather(actor=actor)) == by_id(gather(actor=CyclingActor(most_messages=5)))


def test_places_without_an_answer_are_those_of_the_episodes_also_beside_ones_that_outgrew_the_context():
    episodes = [Episode.start(LineWorld(), f"line_{goal}") for goal in (1, 2, 3)]
    episodes[0].act("left")
    actor = FailingActor(lambda goal, messages, number: goal == 3, most_messages=2)
    with pytest.raises(ActorUnavailable) as caught:
        ask(actor, episodes, [0, 1, 2], samples=1, temperature=1.0, max_tokens=4)
    assert caught.value.conversations == (2,)
    assert [episode.ended for episode in episodes] == ["truncated", None, None]


def test_the_batch_stays_full_until_the_last_tasks():
    actor = CyclingActor()
    gather(actor=actor, concurrency=4)
    sizes = [conversations for conversations, _ in actor.calls]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 4


def test_rewards_and_tokens_are_one_an_action():
    for trajectory in gather():
        assert len(trajectory.rewards) == len(trajectory.actions)
        assert trajectory.actor.sampled_tokens == 2 * len(trajectory.actions)
        assert trajectory.actor.prompt_tokens == sum(range(1, 2 * len(trajectory.actions), 2))
        assert trajectory.outcome == sum(trajectory.rewards)


def test_an_action_that_the_token_limit_cut_off_is_marked_and_a_whole_one_is_not():
    assert all(t.action_cut == (True,) * len(t.actions) for t in gather(max_tokens=1))
    assert all(t.extra == {} for t in gather(max_tokens=2))


def test_best_of_n_returns_the_sample_whose_last_step_scores_best():
    settings = {"make_environment": LineWorld, "actor": CyclingActor(), "temperature": 1.0, "seed": 3}
    results = best_of_n(TASKS, scorer=StepScorer(), n=5, **settings)
    pool = gather()
    for task, result in zip(TASKS, results, strict=True):
        scores = {t.id: s.promise[-1] for t, s in zip(pool, StepScorer().score(pool), strict=True) if t.task == task}
        assert result.score == max(scores.values()) == scores[result.trajectory.id]
        assert result.sampled_tokens == sum(t.actor.sampled_tokens for t in pool if t.task == task)


def best(**options):
    settings = {"make_environment": LineWorld, "actor": CyclingActor(), "temperature": 1.0, "seed": 3}
    return best_of_n(TASKS, scorer=StepScorer(), n=5, **{**settings, **options})


def test_a_sample_that_fails_once_costs_best_of_n_nothing():
    failing = FailingActor(lambda goal, messages, number: goal == 2 and messages == 3 and number == 1)
    assert best(actor=failing) == best()


def test_samples_that_always_fail_are_counted_and_the_best_of_the_others_is_chosen():
    failing = FailingActor(lambda goal, messages, number: goal == 2 and messages == 3)
    lost = {t.id for t in gather() if t.task == "line_2" and len(t.actions) > 1}
    assert 0 < len(lost) < 5
    found, usual = best(actor=failing), best()
    assert [result.unanswered for result in found] == [0, len(lost), 0, 0]
    assert found[0::2] == usual[0::2]
    assert found[1].trajectory.id not in lost


@pytest.mark.parametrize(
    "actor", [FailingActor(lambda goal, messages, number: goal == 2), CrampedActor(2)], ids=["refused", "no room"]
)
def test_a_task_without_any_sample_has_no_result_and_the_others_have_theirs(actor):
    with pytest.raises(TasksLeftOut, match="1 of 4 tasks have no result") as caught:
        best(actor=actor, attempts=2)
    assert caught.value.failures.keys() == {"line_2"}
    assert caught.value.results == [result for result in best() if result.trajectory.task != "line_2"]


def test_an_undisturbed_expert_is_imitated_everywhere_and_succeeds():
    for trajectory in demonstrate(TASKS, make_environment=LineWorld, expert=LineExpert(), seed=0, disturbed=0.0):
        assert trajectory.success
        assert all(trajectory.action_loss)


def test_random_actions_of_a_disturbed_demonstration_are_exactly_those_that_carry_no_loss():
    tasks = [f"line_{goal}" for goal in [1, 2, 3] * 20]
    found = list(
        demonstrate(tasks, make_environment=LineWorld, expert=LineExpert(), seed=0, disturbed=1.0, disturbance=0.5)
    )
    assert any(not all(t.action_loss) for t in found)
    for trajectory in found:
        world = LineWorld()
        world.reset(trajectory.task)
        for action, imitated in zip(trajectory.actions, trajectory.action_loss, strict=True):
            if imitated:
                assert action.content == LineExpert().act_in(world)
            world.step(action.content)


def test_demonstrations_of_one_task_have_ids_of_their_own_and_are_disturbed_differently():
    settings = {"make_environment": LineWorld, "expert": LineExpert(), "seed": 0, "disturbed": 1.0, "disturbance": 0.5}
    found = list(demonstrate(TASKS, samples=3, **settings))
    assert len({t.id for t in found}) == 3 * len(TASKS)
    assert len({tuple(a.content for a in t.actions) for t in found if t.task == "line_4"}) > 1
    rest = list(demonstrate(TASKS, samples=3, done={t.id for t in found[::2]}, **settings))
    assert rest == found[1::2]


def test_an_open_episode_is_no_trajectory():
    with pytest.raises(ValueError, match="still open"):
        Episode.start(LineWorld(), "line_1").trajectory("x", "train", None)


def test_a_fork_of_an_episode_leaves_the_original_alone():
    episode = Episode.start(LineWorld(), "line_2")
    twin = episode.fork()
    twin.act("right", complete=False)
    assert (episode.rewards, episode.cut, len(episode.messages), episode.environment.place) == ([], [], 1, 0)


@pytest.mark.parametrize("size", [{"samples": 0}, {"concurrency": 0}, {"attempts": 0}])
def test_collecting_nothing_a_task_is_refused(size):
    with pytest.raises(ValueError, match="samples >= 1"):
        gather(**size)
