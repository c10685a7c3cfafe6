"""How fast environments and scripted experts are, held against AgentGym's own as they were measured in process.

Command:

    uv run benchmarks/environments.py

One core plays whole episodes of the scripted experts in AgentGym's form and text; BabyAI also in the compact text of
the experiments. Resets, steps (the expert's thinking not counted) and the expert's decisions are timed apart. Goals are
the figures of AgentGym's engines: 28 us a step and 0.9 ms a reset in TextCraft, 425 text steps a second and 4.7 ms a
reset in BabyAI, and 1,386 moves a second that minigrid's own bot plans; ours decides an action of several moves at
once, so its moves are counted. They were measured on another day, so they say less than a ratio of one run. Prints the
table, and writes report.md and goals.json into runs/benchmarks/environments.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import tyro
from goals import RUNS, Goal, goals_table, grid, write_goals

from agentprm_jax.reporting.formatting import MISSING

NAME, TEXTCRAFT = "environments", "TextCraft"


@dataclass(frozen=True)
class EnvironmentsConfig:
    """Settings of the measurement."""

    episodes: int = 180
    """Episodes of each environment."""
    output: Path = RUNS / NAME
    """Folder of report.md and goals.json."""


class Played(NamedTuple):
    """Seconds that episodes took, and how often something was done.

    Attributes:
        name: environment and text.
        resets, steps, moves: how many; an action of BabyAI is a path of moves.
        solved: episodes with the full reward.
        resetting, stepping, deciding: seconds of all resets, of all steps and of all decisions of the expert.
    """

    name: str
    resets: int
    steps: int
    moves: int
    solved: int
    resetting: float
    stepping: float
    deciding: float


def main(config: EnvironmentsConfig) -> None:
    """Plays, prints and writes."""
    from agentprm_jax.actors.babyai_expert import BabyAIExpert
    from agentprm_jax.actors.textcraft_expert import TextCraftExpert
    from agentprm_jax.envs import make_env, task_ids

    worlds, recipes = (spread(task_ids(name, "train"), config.episodes) for name in ("babyai", "textcraft"))
    played = [
        play(TEXTCRAFT, make_env("textcraft", max_rounds=40), TextCraftExpert(), recipes),
        play("BabyAI", make_env("babyai", max_rounds=40), BabyAIExpert(), worlds),
        play("BabyAI, compact", make_env("babyai", text="compact", max_rounds=40), BabyAIExpert(), worlds),
    ]
    found = goals(played)
    report = f"{table(played)}\n\n{goals_table(found)}\n"
    write_goals(config.output, found)
    (config.output / "report.md").write_text(report, encoding="utf-8")
    print(report)


def spread(tasks: Sequence[str], count: int) -> list[str]:
    """So many tasks from the whole list."""
    return list(tasks[:: max(1, len(tasks) // count)][:count])


def play(name: str, env: Any, expert: Any, tasks: Sequence[str]) -> Played:
    """The expert's episodes, timed."""
    steps = moves = solved = 0
    resetting = stepping = deciding = 0.0
    env.reset(tasks[0])
    for task in tasks:
        start = time.perf_counter()
        seen = env.reset(task)
        resetting += time.perf_counter() - start
        while not seen.done:
            start = time.perf_counter()
            action = expert.act_in(env)
            decided = time.perf_counter()
            seen = env.step(action)
            stepping += time.perf_counter() - decided
            deciding += decided - start
            steps += 1
        solved += seen.terminated
        moves += env.world.level.step_count if name != TEXTCRAFT else 0
    return Played(name, len(tasks), steps, moves, solved, resetting, stepping, deciding)


def goals(played: Sequence[Played]) -> list[Goal]:
    """At least as fast as AgentGym's engines, and the expert as minigrid's bot."""
    textcraft, babyai, _ = played
    return [
        Goal(NAME, "TextCraft, a step", "at most", 28.0, " us", 1e6 * textcraft.stepping / textcraft.steps),
        Goal(NAME, "TextCraft, a reset", "at most", 0.9, " ms", 1e3 * textcraft.resetting / textcraft.resets),
        Goal(NAME, "BabyAI, text steps", "at least", 425.0, " a second", babyai.steps / babyai.stepping),
        Goal(NAME, "BabyAI, a reset", "at most", 4.7, " ms", 1e3 * babyai.resetting / babyai.resets),
        Goal(NAME, "BabyAI, the expert's moves", "at least", 1386.0, " a second", babyai.moves / babyai.deciding),
    ]


def table(played: Sequence[Played]) -> str:
    """One line an environment."""
    header = ("environment", "episodes", "ended", "steps", "a reset", "steps/s", "the expert's decisions/s", "moves/s")
    rows = [
        (
            one.name,
            f"{one.resets}",
            f"{one.solved}",
            f"{one.steps}",
            f"{1e3 * one.resetting / one.resets:.2f} ms",
            f"{one.steps / one.stepping:,.0f}",
            f"{one.steps / one.deciding:,.0f}",
            f"{one.moves / one.deciding:,.0f}" if one.moves else MISSING,
        )
        for one in played
    ]
    return grid(header, rows)


if __name__ == "__main__":
    main(tyro.cli(EnvironmentsConfig, description=__doc__))
