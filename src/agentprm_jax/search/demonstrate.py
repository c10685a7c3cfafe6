"""Demonstrations by a scripted expert, some of them with wrong actions mixed in that teach recovery."""

from __future__ import annotations

import itertools
import random
from collections.abc import Container, Iterator, Sequence
from typing import Any, Protocol

from agentprm_jax.data.record import ACTION_LOSS
from agentprm_jax.data.trajectory import ActorInfo, Trajectory
from agentprm_jax.envs.base import Environment
from agentprm_jax.search.episode import Episode, MakeEnvironment
from agentprm_jax.search.seeding import stable_seed


class Expert(Protocol):
    """A scripted policy that may look into the environment."""

    def act_in(self, env: Any, /) -> str:
        """Returns the next action for the live environment, whatever was done in it before."""
        ...


def demonstrate(
    tasks: Sequence[str],
    *,
    make_environment: MakeEnvironment,
    expert: Expert,
    samples: int = 1,
    seed: int,
    disturbed: float = 0.75,
    disturbance: float = 0.2,
    split: str = "train",
    done: Container[str] = (),
) -> Iterator[Trajectory]:
    """Yields `samples` demonstrations of every task; they differ where they are disturbed.

    Clean demonstrations teach no recovery: in a share of the episodes some actions are replaced by uniformly random
    listed ones. `extra["action_loss"]` holds one boolean an action, False on the replaced ones, which must not
    be imitated.

    Args:
        samples: demonstrations a task.
        disturbed: share of the episodes that are disturbed, in [0, 1].
        disturbance: chance that an action of a disturbed episode is random, in [0, 1].
        done: ids (the task with `/expert/` and the number of the sample) to leave out.

    Raises:
        ValueError: `samples` is below 1, a share lies outside [0, 1], or an environment lists no actions where a random
            one is due.
    """
    if not (0.0 <= disturbed <= 1.0 and 0.0 <= disturbance <= 1.0):
        raise ValueError(f"disturbed and disturbance are shares in [0, 1]; got {disturbed} and {disturbance}.")
    if samples < 1:
        raise ValueError(f"demonstrate needs samples >= 1; got {samples}.")
    environment = make_environment()
    for task, sample in itertools.product(tasks, range(samples)):
        identifier = f"{task}/expert/{sample}"
        if identifier in done:
            continue
        draw = random.Random(stable_seed("demonstrate", seed, task, sample))
        chance = disturbance if draw.random() < disturbed else 0.0
        yield _demonstration(environment, task, expert, draw, chance, identifier, split)
    environment.close()


def _demonstration(
    environment: Environment,
    task: str,
    expert: Expert,
    draw: random.Random,
    chance: float,
    identifier: str,
    split: str,
) -> Trajectory:
    episode = Episode.start(environment, task)
    imitated: list[bool] = []
    while not episode.ended:
        imitated.append(draw.random() >= chance)
        episode.act(expert.act_in(environment) if imitated[-1] else _random_action(environment, draw))
    extra = {} if all(imitated) else {ACTION_LOSS: imitated}
    return episode.trajectory(identifier, split, ActorInfo(name="expert", temperature=0.0), extra)


def _random_action(environment: Environment, draw: random.Random) -> str:
    actions = environment.valid_actions()
    if not actions:
        raise ValueError(
            f"Environment {environment.name} lists no actions, so no random one can be drawn: set disturbed to 0."
        )
    return draw.choice(actions)
