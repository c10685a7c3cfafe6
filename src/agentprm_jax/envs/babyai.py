"""BabyAI: carry out an instruction among rooms, doors and objects, by AgentGym's rules or in declared form."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, NamedTuple

from agentprm_jax.envs.agentgym import opening
from agentprm_jax.envs.babyai_compact import CompactText
from agentprm_jax.envs.babyai_levels import LEVELS, NAME, level_and_seed, level_tasks, make_level, task_ids
from agentprm_jax.envs.babyai_mission import Progress
from agentprm_jax.envs.babyai_scene import Language, look
from agentprm_jax.envs.babyai_text import AgentGymText
from agentprm_jax.envs.babyai_world import World
from agentprm_jax.envs.base import (
    FINISH,
    FORMS,
    Environment,
    Observation,
    check_choice,
    check_max_rounds,
    is_finish,
    parse_options,
    require_running,
)

__all__ = ["LEVELS", "NAME", "BabyAI", "BabyAIOptions", "level_tasks", "make", "task_ids"]

_TEXTS = ("agentgym", "compact")


@dataclass(frozen=True)
class BabyAIOptions:
    """How BabyAI behaves; the defaults are AgentGym's."""

    form: str = "agentgym"
    """`agentgym`: BabyAI's verifier pays for reaching the goal, less with more moves, and ends the episode.
    `declared`: `finish` ends it, and pays 1 if the mission is fulfilled then (see `babyai_mission`)."""
    text: str = "agentgym"
    """`agentgym`: AgentGym's texts. `compact`: few words from a closed vocabulary, see `babyai_compact`."""
    max_rounds: int | None = None
    """Actions after which the episode is truncated; None for no limit. AgentGym's controller stops after 20."""
    strict_order: bool = False
    """Declared form: doing the second part of an ordered mission before the first is a failure for good."""
    blur_order: bool | None = None
    """AgentGym's goal text says "and" for "then" and "after you". None does so in AgentGym's form, and not in declared
    form, whose verdict depends on the order. Compact text always tells the order."""
    lose_reward_within_macro: bool = True
    """AgentGym looks only at the last move of a macro action: a goal met before it is not paid. False stops there."""
    reopen_below_half: bool = True
    """AgentGym goes on after a success that pays 0.5 or less. False ends the episode."""
    continue_after_failure: bool = True
    """AgentGym goes on after BabyAI's verdict "failure" in strict levels. False ends the episode."""
    announce_failure: bool = True
    """AgentGym says "The task is completed." after that verdict too."""
    repeat_stale_reward: bool = True
    """AgentGym adds the last reward to the score again in rounds that make no move."""
    ignore_max_steps: bool = True
    """AgentGym ignores the level's own limit of moves. False truncates there."""
    close_doors: bool | None = None
    """AgentGym lists `toggle` only at closed doors, so that no action closes one. None does so in AgentGym's form, and
    allows it in declared form, where a door that was opened too early has to be opened again."""
    number_reachable: bool = True
    """AgentGym's numbers in `pickup` and `go to` count reachable things only, and can differ from those in the text.
    Compact text never does."""
    path_margins: bool = True
    """AgentGym's paths may use, in three of the four directions, a row behind or a column beside the view."""

    def __post_init__(self) -> None:
        """Raises ValueError for a value that no BabyAI has."""
        check_choice("form", self.form, FORMS)
        check_choice("text", self.text, _TEXTS)
        check_max_rounds(self.max_rounds)

    @property
    def declared(self) -> bool:
        """Whether the actor ends the episode."""
        return self.form == "declared"


class _Verdict(NamedTuple):
    """BabyAI's verdict at the end of a round: whether it was given, and what it pays (0 for a failure)."""

    given: bool = False
    reward: float = 0.0


class BabyAI(Environment):
    """One player's BabyAI.

    In AgentGym's form the reward of an observation is what AgentGym adds to the score, so that the sum of rewards is
    the final score, which is the reward of AgentGym's trajectories; see `outcome` where it exceeds 1. The `info` of an
    observation has `valid` (the action was possible) and `goal` (the mission is fulfilled; in AgentGym's form: the
    score is positive), and in AgentGym's form also the fields of its answers: `reward`, `score` and `done`.

    Attributes:
        options: How it behaves.
        language: The language of its texts.
        world: The running level; None before `reset`.
        progress: How far its mission has come.
        scene: What the agent perceives.
        rounds: Actions taken so far.
    """

    name = NAME

    def __init__(self, options: BabyAIOptions | None = None) -> None:
        """Makes an environment without a running episode."""
        self.options = options or BabyAIOptions()
        self.language = _language(self.options)
        self.opening = opening(NAME, declared=self.options.declared) if self.options.text == "agentgym" else ()
        self.world: World | None = None
        self._ended = False

    def reset(self, task: str) -> Observation:
        """Makes the level of a task anew; see `Environment.reset`."""
        self.world = World(make_level(*level_and_seed(task)))
        self.progress = Progress(self.world, strict_order=self.options.strict_order)
        self.scene = look(self.world)
        self.rounds = 0
        self._reward = self._score = 0.0
        self._ended = False
        return Observation(self.language.first(self.world.level, self.scene), info=self._info(valid=True))

    def step(self, action: str) -> Observation:
        """Takes one action; see `Environment.step`."""
        require_running(NAME, self.world is not None, self._ended)
        self.rounds += 1
        if self.options.declared and is_finish(action):
            return self._finish()
        reading = self.language.read(action, self.scene)
        if reading.moves:
            verdict = self._carry_out(reading.moves)
            announced = verdict.given and (verdict.reward > 0 or self.options.announce_failure)
            text = self.language.describe(self.scene, self.rounds, completed=announced)
        else:
            verdict = _Verdict(reward=self._reward if self.options.repeat_stale_reward else 0.0)
            text = self.language.reply(reading, self.scene, self.rounds)
        return self._answer(text, verdict, valid=reading.possible)

    def fork(self) -> BabyAI:
        """Returns an independent copy; what never changes is shared."""
        twin = copy(self)
        if self.world is not None:
            twin.world = self.world.copy()
            twin.progress = self.progress.copy(twin.world)
        return twin

    def outcome(self, rewards: Sequence[float]) -> float:
        """Returns AgentGym's score, but 1 where it is more; see `Environment.outcome`.

        AgentGym goes on after a success that pays 0.5 or less, and pays it again in every round without a move: such a
        score has no upper end. An outcome has, and 1 is the most that any mission pays. The score itself is the sum of
        the rewards.
        """
        return min(1.0, super().outcome(rewards))

    def valid_actions(self) -> list[str] | None:
        """Returns the actions that are possible now, or None before `reset`."""
        if self.world is None:
            return None
        return [*self.language.moves(self.scene), *([FINISH] if self.options.declared else [])]

    def _finish(self) -> Observation:
        self._ended = True
        fulfilled = self.progress.fulfilled()
        info = {"valid": True, "goal": fulfilled}
        return Observation(self.language.farewell(), float(fulfilled), terminated=True, info=info)

    def _carry_out(self, moves: tuple[int, ...]) -> _Verdict:
        """Makes moves until one leaves the view as it was, or the mission ends and that is not to be lost."""
        assert self.world is not None
        view, verdict = self.scene.view, _Verdict()
        for move in moves:
            self.world.move(move)
            self.progress.observe()
            if not self.options.declared:
                verdict = _Verdict(*self.world.verdict(move))
            seen = self.world.view()
            if seen == view or (verdict.given and not self.options.lose_reward_within_macro):
                break
            view = seen
        self.scene = look(self.world)
        return verdict

    def _answer(self, text: str, verdict: _Verdict, *, valid: bool) -> Observation:
        self._reward = verdict.reward
        self._score += verdict.reward
        terminated = verdict.given and self._ends(verdict.reward)
        truncated = not terminated and self._out_of_time()
        self._ended = terminated or truncated
        return Observation(text, verdict.reward, terminated, truncated, self._info(valid=valid, done=terminated))

    def _ends(self, reward: float) -> bool:
        """Returns whether a verdict that pays this reward ends the episode."""
        if reward == 0:
            return not self.options.continue_after_failure
        return reward > 0.5 or not self.options.reopen_below_half

    def _out_of_time(self) -> bool:
        assert self.world is not None
        level = self.world.level
        if not self.options.declared and not self.options.ignore_max_steps and level.step_count >= level.max_steps:
            return True
        return self.options.max_rounds is not None and self.rounds >= self.options.max_rounds

    def _info(self, *, valid: bool, done: bool = False) -> dict[str, Any]:
        if self.options.declared:
            return {"valid": valid, "goal": self.progress.fulfilled()}
        fields = {"reward": self._reward, "score": self._score, "done": done}
        return {"valid": valid, "goal": self._score > 0, **fields}


def make(**options: Any) -> BabyAI:
    """Makes a BabyAI with these fields of `BabyAIOptions`.

    Raises:
        ValueError: An option is unknown, or its value is refused.
    """
    return BabyAI(parse_options(NAME, BabyAIOptions, options))


def _language(options: BabyAIOptions) -> Language:
    close_doors = options.declared if options.close_doors is None else options.close_doors
    if options.text == "compact":
        return CompactText(margins=options.path_margins, close_doors=close_doors)
    return AgentGymText(
        blur_order=not options.declared if options.blur_order is None else options.blur_order,
        number_reachable=options.number_reachable,
        margins=options.path_margins,
        close_doors=close_doors,
        further=(FINISH,) if options.declared else (),
    )
