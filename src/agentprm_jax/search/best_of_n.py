"""Best-of-N: sample N trajectories and return the one whose final step scores best."""

from __future__ import annotations

from collections.abc import Sequence

from agentprm_jax.actors.base import Actor
from agentprm_jax.data.trajectory import Trajectory
from agentprm_jax.scoring.base import Scorer
from agentprm_jax.search.collect import collect
from agentprm_jax.search.episode import MakeEnvironment
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
    split: str = "test",
) -> list[SearchResult]:
    """Returns for every task the best of `n` sampled trajectories by the promise of the last step.

    The score of a trajectory is the score of its final step, as in AgentPRM (arXiv 2511.08325, section 4). Of equal
    scores the lower sample number wins. To estimate the curve over many N from one pool, score the pool once and use
    `numerics.best_of_n.best_of_n_curve`.
    """
    pool = list(
        collect(
            tasks,
            make_environment=make_environment,
            actor=actor,
            samples=n,
            temperature=temperature,
            seed=seed,
            max_tokens=max_tokens,
            concurrency=concurrency,
            split=split,
        )
    )
    pool.sort(key=lambda trajectory: int(trajectory.id.rsplit("/", 1)[1]))
    by_task: dict[str, list[tuple[Trajectory, float]]] = {}
    for trajectory, scores in zip(pool, scorer.score(pool), strict=True):
        by_task.setdefault(trajectory.task, []).append((trajectory, scores.promise[-1]))
    return [_best(by_task[task]) for task in tasks]


def _best(scored: list[tuple[Trajectory, float]]) -> SearchResult:
    trajectory, score = max(scored, key=lambda pair: pair[1])
    steps = sum(len(member.rewards) for member, _ in scored)
    sampled = sum(member.actor.sampled_tokens for member, _ in scored if member.actor)
    return SearchResult(trajectory, score, sampled, scored_actions=steps, environment_steps=steps)
