"""Collection: many episodes of an actor at once, each a function of (task, sample, seed) alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterator, Sequence

from agentprm_jax.actors.base import Actor
from agentprm_jax.data.trajectory import ActorInfo, Trajectory
from agentprm_jax.search.episode import Episode, MakeEnvironment, ask
from agentprm_jax.search.seeding import stable_seed


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
    split: str = "train",
    done: Container[str] = (),
) -> Iterator[Trajectory]:
    """Yields `samples` trajectories of every task, each as soon as it has ended.

    An episode that outgrows the actor's context ends there, truncated, with the rewards paid so far.

    An ended episode hands its place to the next one, so the actor's batch stays full until the last tasks. A trajectory
    depends on (task, sample, seed) and not on what else is in the batch, so that an interrupted collection continues by
    passing the ids that are already written as `done`.

    Args:
        tasks: task ids of the environment.
        make_environment: makes an environment whose episodes end by themselves (by a round limit at the latest).
        samples: trajectories a task; the paper's N_TD is 16.
        temperature: sampling temperature, 0 for greedy.
        seed: of the sampling; the environment's own randomness belongs to the task.
        max_tokens: most tokens an action may have.
        concurrency: episodes in flight.
        split: the name recorded in the trajectories.
        done: ids, as `trajectory_id` gives them, to leave out.

    Raises:
        ValueError: `samples` or `concurrency` is below 1.
    """
    if samples < 1 or concurrency < 1:
        raise ValueError(f"collect needs samples >= 1 and concurrency >= 1; got {samples} and {concurrency}.")
    waiting = deque(
        (task, sample) for task in tasks for sample in range(samples) if trajectory_id(task, sample, seed) not in done
    )
    spare, live = [], []
    while waiting or live:
        while waiting and len(live) < concurrency:
            task, sample = waiting.popleft()
            live.append((Episode.start(spare.pop() if spare else make_environment(), task), sample))
        _advance([episode for episode, _ in live], [sample for _, sample in live], actor, temperature, seed, max_tokens)
        for episode, sample in live:
            if episode.ended:
                identifier = trajectory_id(episode.task, sample, seed)
                yield episode.trajectory(identifier, split, _actor_info(actor, temperature, seed, episode))
                spare.append(episode.environment)
        live = [(episode, sample) for episode, sample in live if not episode.ended]
    for environment in spare:
        environment.close()


def trajectory_id(task: str, sample: int, seed: int) -> str:
    """The id of sample number `sample` of `task` under `seed`."""
    return f"{task}/{seed}/{sample}"


def _advance(
    episodes: list[Episode], samples: list[int], actor: Actor, temperature: float, seed: int, max_tokens: int
) -> None:
    seeds = [
        stable_seed("collect", seed, episode.task, sample, len(episode.rewards))
        for episode, sample in zip(episodes, samples, strict=True)
    ]
    answers = ask(actor, episodes, seeds, samples=1, temperature=temperature, max_tokens=max_tokens)
    for episode, actions in zip(episodes, answers, strict=True):
        for action in actions:
            episode.act(action.text, action.tokens)


def _actor_info(actor: Actor, temperature: float, seed: int, episode: Episode) -> ActorInfo:
    return ActorInfo(name=actor.name, temperature=temperature, seed=seed, sampled_tokens=episode.sampled_tokens)
