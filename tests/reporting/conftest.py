"""A made-up evaluation, complete enough to build every table, figure and page from."""

import datetime
import pathlib
import sys

import numpy as np
import pytest

from agentprm_jax.data.trajectory import ActorInfo, Message, Trajectory
from agentprm_jax.reporting import results as r
from agentprm_jax.reporting.statistics import estimate, paired_bootstrap

sys.path.insert(0, str(pathlib.Path(__file__).parent))

SIZES = (1, 2, 4, 8, 16, 32)
PRMS = {"agentprm": 0.31, "agentprm_no_la": 0.29, "pvm": 0.27, "orm": 0.21}
HOSTILE = "</script><script>alert('x')</script> <b onmouseover=\"alert(1)\">& \"quoted\" 'text'"


def outcomes(mean: float, *, seeds: int, tasks: int = 120, seed: int = 0) -> np.ndarray:
    """Outcomes [seed, task] in [0, 1] of a method with about this mean; tasks differ in difficulty."""
    difficulty = np.random.default_rng(7).uniform(-0.5, 0.5, tasks)
    noise = np.random.default_rng(seed).normal(0, 0.15, (seeds, tasks))
    shift = np.random.default_rng(seed + 1).normal(0, 0.01, (seeds, 1))
    return np.clip(mean + difficulty + noise + shift, 0, 1)


def make_curves() -> tuple[r.Curve, ...]:
    rises = {**PRMS, "oracle": 0.52, "earliest_finish": 0.04, "shortest": -0.1}
    kinds: dict[str, r.RowKind] = {"oracle": "bound", "earliest_finish": "control", "shortest": "control"}
    curves = [
        r.Curve(
            method=name,
            kind=kinds.get(name, "method"),
            sizes=SIZES,
            estimates=tuple(
                estimate(outcomes(0.36 + rise * np.log2(n) ** 0.7 / 5**0.7, seeds=5 if name in PRMS else 1, seed=n))
                for n in SIZES
            ),
            tokens_sampled=tuple(42.0 * n for n in SIZES),
        )
        for name, rise in rises.items()
    ]
    greedy = r.Curve(method="greedy", kind="control", sizes=(1,), estimates=(estimate(outcomes(0.53, seeds=1)),))
    return (*curves, greedy)


def make_tables() -> tuple[r.Table, ...]:
    columns = tuple(
        r.Column(key=key, title=title, meaning="mean outcome of the chosen trajectory, 0 to 1")
        for key, title in (("bon8", "Best-of-8"), ("beam2x2", "beam 2x2"), ("beam4x4", "beam 4x4"))
    )
    means = {"agentprm": (0.61, 0.55, 0.60), "agentprm_no_la": (0.60, 0.54, 0.58), "pvm": (0.59, 0.52, 0.57)}
    means |= {"orm": (0.57, 0.44, 0.43), "greedy": (0.53,) * 3, "random": (0.36,) * 3, "expert": (0.98,) * 3}
    kinds: dict[str, r.RowKind] = {"greedy": "control", "random": "control", "expert": "bound"}
    costs = {"bon8": r.Cost(tokens_sampled=336, tokens_scored=824, tokens_kept=7310, environment_steps=32.4)}
    rows = [
        r.Row(
            method=name,
            kind=kinds.get(name, "method"),
            estimates={
                column.key: estimate(outcomes(mean, seeds=5 if name in PRMS else 1, seed=index))
                for index, (column, mean) in enumerate(zip(columns, values, strict=True))
            },
            costs=costs if name == "pvm" else {},
        )
        for name, values in means.items()
    ]
    oracle = {"bon8": estimate(outcomes(0.75, seeds=1))}
    beam = {key: estimate(outcomes(0.29, seeds=1)) for key in ("beam2x2", "beam4x4")}
    rows += [
        r.Row(method="oracle", kind="bound", estimates=oracle, note="pass@N: the best of the N samples"),
        r.Row(method="random_beam_finished_first", kind="control", estimates=beam),
    ]
    auc = tuple(r.Column(key=f"auc{step}", title=f"AUC, step {step}") for step in (1, 2, 3))
    brier = r.Column(key="brier", title="Brier", better="lower", digits=4)
    values = [
        r.Row(
            method=name,
            kind="method",
            estimates={c.key: estimate(outcomes(0.5 + 0.06 * i, seeds=5, seed=i)) for i, c in enumerate((*auc, brier))},
        )
        for name in PRMS
    ]
    return (
        r.Table(name="Search on 120 test tasks", columns=columns, rows=tuple(rows), caption="BabyAI, declared form."),
        r.Table(name="Value metrics", columns=(*auc, brier), rows=tuple(values)),
    )


def make_results() -> r.Results:
    agentprm, orm, pvm = (outcomes(mean, seeds=5, seed=i) for i, mean in enumerate((0.55, 0.46, 0.545)))
    comparisons = [
        r.Comparison(metric="beam 2x2", a="agentprm", b="orm", difference=paired_bootstrap(agentprm, orm, seed=0)),
        r.Comparison(metric="beam 2x2", a="agentprm", b="pvm", difference=paired_bootstrap(agentprm, pvm, seed=0)),
        r.Comparison(
            metric="Best-of-8", a="agentprm", b="greedy", difference=paired_bootstrap(agentprm, orm[0] + 0.02, seed=0)
        ),
    ]
    checks = [
        r.Check(name="AgentPRM above ORM in beam search", passed=True, detail="+.090 ± .012"),
        r.Check(name="Fixed-step AUC of at least .75 at step 3", passed=False, detail=".741 ± .012"),
    ]
    stages = [
        r.Stage(name="demonstrations", minutes=0.4, environment_steps=16_204),
        r.Stage(name="actor", minutes=1.8, tokens_trained=1_638_400, reused=True),
        r.Stage(name="pools", minutes=3.25, tokens_sampled=1_234_567, environment_steps=98_765),
        r.Stage(name="evaluation", minutes=62.0, tokens_scored=7_654_321),
    ]
    return r.Results(
        title="AgentPRM on BabyAI: quickstart",
        headline="Beam search with AgentPRM chooses better than with ORM; AgentPRM and PVM cannot be told apart.",
        created=datetime.datetime(2025, 3, 4, 5, 6, tzinfo=datetime.UTC),
        command="uv run experiments/quickstart.py --preset full",
        machine="Linux x86_64, 2 cores",
        git_commit="0123456789abcdef0123456789abcdef01234567",
        versions={"python": "3.11.9", "jax": "0.10.2"},
        config={"preset": "full", "prm": {"lam": 0.95, "seeds": [0, 1, 2, 3, 4]}, "note": "<default>"},
        pipeline={"preset": "full", "trunk_steps": 2500},
        prms=(r.PrmTraining(method="agentprm", seed=0, progress="gae", lam=0.95, beta=1.0, learning_rate=0.0015),),
        tables=make_tables(),
        curves=make_curves(),
        comparisons=tuple(comparisons),
        checks=tuple(checks),
        stages=tuple(stages),
    )


def make_trajectory(index: int, *, success: bool, text: str = "") -> Trajectory:
    """An episode of 3 to 8 steps whose promises drift towards its outcome."""
    rng = np.random.default_rng(index)
    steps = int(rng.integers(3, 9))
    messages = [Message("user", "You are an agent. Reply with one action."), Message("assistant", "Ok.")]
    for step in range(steps):
        seen = f"t{step} red ball {step + 1} a2 l1 grey key 1 a3 c0 wall a2\nhold nothing {text}"
        messages += [Message("user", seen), Message("assistant", f"go to grey key {step + 1} {text}", action=True)]
    trajectory = Trajectory(
        id=f"{index}-{int(success)}",
        env="babyai",
        task=f"babyai_{index // 2}",
        split="test",
        messages=tuple(messages),
        rewards=(0.0,) * (steps - 1) + (float(success),),
        ended="terminated" if success else "truncated",
        actor=ActorInfo(name="actor, 454k parameters", temperature=1.0),
    )
    for name in PRMS:
        drift = np.cumsum(rng.normal(0.07 if success else -0.05, 0.06, steps))
        promise = np.clip(0.4 + drift, 0.02, 0.98)
        trajectory = trajectory.with_scores(name, promise.tolist(), np.diff(promise, prepend=0.36).tolist())
    return trajectory


@pytest.fixture(scope="session")
def results() -> r.Results:
    return make_results()


@pytest.fixture(scope="session")
def trajectories() -> list[Trajectory]:
    return [make_trajectory(index, success=index % 3 == 0) for index in range(60)]


@pytest.fixture(scope="session")
def hostile() -> Trajectory:
    return make_trajectory(1, success=False, text=HOSTILE)
