"""Best-of-N: sample N trajectories and return the one whose final step scores best."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from agentprm_jax.actors.base import Actor
from agentprm_jax.data.trajectory import Trajectory
from agentprm_jax.scoring.base import Scorer
from agentprm_jax.search.collect import collect, task_of
from agentprm_jax.search.episode import MakeEnvironment
from agentprm_jax.search.left_out import EpisodesLeftOut, Failure, TasksLeftOut
from agentprm_jax.search.result import SearchResult


def best_of_n(
    tasks: Sequence[str],
    *,
    make_environment: MakeEnvironment,
    actor: Actor,
    scorer: Scorer,
    n: int,
    temperature: float,
    seed: int,
    max_tokens: int = 32,
    concurrency: int = 256,
    attempts: int = 3,
    split: str = "test",
) -> list[SearchResult]:
    """Returns for every task the best of `n` sampled trajectories by the promise of the last step.

    The score of a trajectory is the score of its final step, as in AgentPRM (arXiv 2511.08325, section 4). Of equal
    scores the lower sample number wins. To estimate the curve over many N from one pool, score the pool once and use
    `numerics.best_of_n.best_of_n_curve`.

    An episode that the actor leaves without an answer is started anew, up to `attempts` times; after that the best of
    the task's other samples is returned, and `SearchResult.unanswered` counts what is missing.

    Raises:
        ValueError: `n`, `concurrency` or `attempts` is below 1.
        ActorUnavailable: the actor has not answered a single time: it is not there.
        TasksLeftOut: at the end, if tasks have no sample at all; it holds the results of the others.
    """
    pool: list[Trajectory] = []
    failures: dict[str, Failure] = {}
    try:
        for trajectory in collect(
            tasks,
            make_environment=make_environment,
            actor=actor,
            samples=n,
            temperature=temperature,
            seed=seed,
            max_tokens=max_tokens,
            concurrency=concurrency,
            attempts=attempts,
            split=split,
        ):
            pool.append(trajectory)
    except EpisodesLeftOut as error:
        failures = error.failures
    pool.sort(key=lambda trajectory: int(trajectory.id.rsplit("/", 1)[1]))
    scored: dict[str, list[tuple[Trajectory, float]]] = {task: [] for task in tasks}
    for trajectory, scores in zip(pool, scorer.score(pool), strict=True):
        scored[trajectory.task].append((trajectory, scores.promise[-1]))
    missing = Counter(map(task_of, failures))
    results = [_best(scored[task], missing[task]) for task in tasks if scored[task]]
    if without := {task_of(name): failure for name, failure in failures.items() if not scored[task_of(name)]}:
        raise TasksLeftOut(without, results)
    return results


def _best(scored: list[tuple[Trajectory, float]], unanswered: int) -> SearchResult:
    trajectory, score = max(scored, key=lambda pair: pair[1])
    steps = sum(len(member.rewards) for member, _ in scored)
    sampled = sum(member.actor.sampled_tokens for member, _ in scored if member.actor)
    return SearchResult(trajectory, score, sampled, steps, steps, unanswered)
