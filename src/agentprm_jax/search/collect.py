"""Collection: many episodes of an actor at once, each a function of (task, sample, seed) alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterator, Sequence
from typing import NamedTuple

from agentprm_jax.actors.base import Actor, ActorUnavailable, ConversationTooLong
from agentprm_jax.data.trajectory import ActorInfo, Trajectory
from agentprm_jax.search.episode import Episode, MakeEnvironment, ask
from agentprm_jax.search.left_out import EpisodesLeftOut, Failure
from agentprm_jax.search.seeding import stable_seed


class _Play(NamedTuple):
    """One episode to be played: sample number `sample` of a task, started for the `attempt`-th time."""

    task: str
    sample: int
    attempt: int = 1


def collect(
    tasks: Sequence[str],
    *,
    make_environment: MakeEnvironment,
    actor: Actor,
    samples: int,
    temperature: float,
    seed: int,
    max_tokens: int = 32,
    concurrency: int = 256,
    attempts: int = 3,
    split: str = "train",
    done: Container[str] = (),
) -> Iterator[Trajectory]:
    """Yields `samples` trajectories of every task, each as soon as it has ended.

    An episode that outgrows the actor's context ends there, truncated, with the rewards paid so far, and says so in
    `extra["ended_by"]`. One that the actor leaves without an answer is started anew, and left out after `attempts`
    starts; one whose first action has no room in the context is left out at once. The others do not notice.

    An action that `max_tokens` cuts off is played as far as it was said, and marked in `extra["action_cut"]`.

    An ended episode hands its place to the next one, so the actor's batch stays full until the last tasks. The random
    numbers of a trajectory depend on (task, sample, seed) and not on what else is in the batch, so that an interrupted
    collection continues by passing the ids that are already written as `done`. Batches of other sizes may round
    bfloat16 products otherwise, so a token that lies between two may come out as the other.

    Args:
        tasks: task ids of the environment.
        make_environment: makes an environment whose episodes end by themselves (by a round limit at the latest).
        samples: trajectories a task; the paper's N_TD is 16.
        temperature: sampling temperature, 0 for greedy.
        seed: of the sampling; the environment's own randomness belongs to the task.
        max_tokens: most tokens an action may have.
        concurrency: episodes in flight.
        attempts: times that an episode is started before it is left out.
        split: the name recorded in the trajectories.
        done: ids, as `trajectory_id` gives them, to leave out.

    Raises:
        ValueError: `samples`, `concurrency` or `attempts` is below 1.
        ActorUnavailable: an episode would be left out, and the actor has not answered a single time: it is not there.
        EpisodesLeftOut: at the end, if episodes were left out.
    """
    if samples < 1 or concurrency < 1 or attempts < 1:
        raise ValueError(
            "collect needs samples >= 1, concurrency >= 1 and attempts >= 1; "
            f"got {samples}, {concurrency} and {attempts}."
        )
    plays = (_Play(task, sample) for task in tasks for sample in range(samples))
    waiting = deque(play for play in plays if trajectory_id(play.task, play.sample, seed) not in done)
    live: list[tuple[Episode, _Play]] = []
    left_out: dict[str, Failure] = {}
    spare, answered = [], False
    while waiting or live:
        while waiting and len(live) < concurrency:
            play = waiting.popleft()
            live.append((Episode.start(spare.pop() if spare else make_environment(), play.task), play))
        failures = _advance(live, actor, temperature, seed, max_tokens)
        unanswered = {place for place, failure in failures.items() if isinstance(failure, ActorUnavailable)}
        answered = answered or len(unanswered) < len(live)
        still_open = []
        for place, (episode, play) in enumerate(live):
            identifier = trajectory_id(play.task, play.sample, seed)
            if place in unanswered and play.attempt < attempts:
                waiting.appendleft(play._replace(attempt=play.attempt + 1))
            elif place in failures:
                left_out[identifier] = failures[place]
            elif episode.ended:
                yield episode.trajectory(identifier, split, _actor_info(actor, temperature, seed, episode))
            else:
                still_open.append((episode, play))
                continue
            spare.append(episode.environment)
        live = still_open
        if left_out and not answered:
            raise next(iter(left_out.values()))
    for environment in spare:
        environment.close()
    if left_out:
        raise EpisodesLeftOut(left_out, attempts)


def trajectory_id(task: str, sample: int, seed: int) -> str:
    """The id of sample number `sample` of `task` under `seed`."""
    return f"{task}/{seed}/{sample}"


def task_of(identifier: str) -> str:
    """The task in an id that `trajectory_id` gave."""
    return identifier.rsplit("/", 2)[0]


def _advance(
    live: Sequence[tuple[Episode, _Play]], actor: Actor, temperature: float, seed: int, max_tokens: int
) -> dict[int, Failure]:
    """Takes one action in every episode; returns the failures of those without an answer or room, by their places."""
    failures: dict[int, Failure] = {}
    places = list(range(len(live)))
    while places:
        episodes = [live[place][0] for place in places]
        seeds = [
            stable_seed("collect", seed, play.task, play.sample, len(episode.rewards))
            for episode, play in (live[place] for place in places)
        ]
        try:
            answers = ask(actor, episodes, seeds, samples=1, temperature=temperature, max_tokens=max_tokens)
        except (ActorUnavailable, ConversationTooLong) as error:
            failures |= {places[index]: error for index in error.conversations}
            places = [place for place in places if place not in failures and not live[place][0].ended]
        else:
            for episode, actions in zip(episodes, answers, strict=True):
                for action in actions:
                    episode.take(action)
            break
    return failures


def _actor_info(actor: Actor, temperature: float, seed: int, episode: Episode) -> ActorInfo:
    return ActorInfo(
        name=actor.name,
        temperature=temperature,
        seed=seed,
        prompt_tokens=episode.prompt_tokens,
        sampled_tokens=episode.sampled_tokens,
    )
