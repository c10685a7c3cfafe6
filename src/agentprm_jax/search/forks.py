"""Forks: many episodes that go on after the same first actions, and what comes of each."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from agentprm_jax.actors.base import Actor
from agentprm_jax.search.episode import Episode, MakeEnvironment, ask
from agentprm_jax.search.seeding import stable_seed


class Prefix(NamedTuple):
    """How an episode began: its task, and its first actions."""

    task: str
    actions: tuple[str, ...]


class Forked(NamedTuple):
    """The outcomes, in [0, 1], of episodes that went on after a prefix; all the same where it ends an episode."""

    prefix: Prefix
    outcomes: tuple[float, ...]


def play_forks(
    prefixes: Sequence[Prefix],
    *,
    make_environment: MakeEnvironment,
    actor: Actor,
    forks: int,
    temperature: float,
    seed: int,
    max_tokens: int = 32,
    concurrency: int = 1024,
) -> Iterator[Forked]:
    """Lets an actor go on after each prefix so many times, in forks of the environment: Monte-Carlo estimates of Q.

    Nothing is assumed about the state but that the environment can be forked: what no observation has shown is as it
    was. The random numbers of a fork depend on (prefix, number of the fork, seed) alone.

    Args:
        prefixes: all different; those of a task should stand together, so that its actions are taken once.
        make_environment: makes an environment whose episodes end by themselves.
        actor: who goes on.
        forks: episodes after each prefix.
        temperature: sampling temperature, 0 for greedy.
        seed: of the sampling.
        max_tokens: most tokens an action may have.
        concurrency: episodes in flight, about.

    Yields:
        Outcomes of each prefix as soon as all its episodes have ended, in no order.

    Raises:
        ValueError: `forks` or `concurrency` is below 1, or an action stands behind one that ended the episode.
        ConversationTooLong, ActorUnavailable: the actor has no room, or gives no answer.
    """
    if forks < 1 or concurrency < 1:
        raise ValueError(f"play_forks needs forks >= 1 and concurrency >= 1; got {forks} and {concurrency}.")
    begun = _begin(prefixes, make_environment)
    found: dict[Prefix, list[float]] = {}
    live: deque[tuple[Prefix, int, Episode]] = deque()
    waiting = True
    while waiting or live:
        while waiting and len(live) < concurrency:
            prefix, episode = next(begun, (None, None))
            if prefix is None or episode is None:
                waiting = False
            elif episode.ended:
                yield Forked(prefix, (episode.outcome,) * forks)
            else:
                found[prefix] = [0.0] * forks
                live.extend((prefix, number, episode.fork()) for number in range(forks))
        seeds = [
            stable_seed("fork", seed, prefix.task, *prefix.actions, number, len(episode.rewards))
            for prefix, number, episode in live
        ]
        episodes = [episode for _, _, episode in live]
        answers = ask(actor, episodes, seeds, samples=1, temperature=temperature, max_tokens=max_tokens)
        for episode, actions in zip(episodes, answers, strict=True):
            for action in actions:
                episode.take(action)
        for _ in range(len(live)):
            prefix, number, episode = live.popleft()
            if not episode.ended:
                live.append((prefix, number, episode))
                continue
            found[prefix][number] = episode.outcome
            episode.close()
        for prefix in found.keys() - {prefix for prefix, _, _ in live}:
            yield Forked(prefix, tuple(found.pop(prefix)))


def _begin(prefixes: Sequence[Prefix], make_environment: MakeEnvironment) -> Iterator[tuple[Prefix, Episode]]:
    """An episode after each prefix, to be forked; it is closed when the next task begins."""
    for task, group in groupby(prefixes, key=lambda prefix: prefix.task):
        known = {(): Episode.start(make_environment(), task)}
        for prefix in group:
            yield prefix, _after(known, prefix)
        for episode in known.values():
            episode.close()


def _after(known: dict[tuple[str, ...], Episode], prefix: Prefix) -> Episode:
    """The episode after a prefix, which goes on from the longest one that is known."""
    length = next(n for n in range(len(prefix.actions), -1, -1) if prefix.actions[:n] in known)
    episode = known[prefix.actions[:length]]
    for end in range(length + 1, len(prefix.actions) + 1):
        if episode.ended:
            raise ValueError(
                f"Task {prefix.task}: the episode is over after {list(prefix.actions[: end - 1])}, but another action, "
                f"{prefix.actions[end - 1]!r}, stands behind them."
            )
        episode = episode.fork()
        episode.act(prefix.actions[end - 1])
        known[prefix.actions[:end]] = episode
    return episode
