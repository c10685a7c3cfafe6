"""A live episode: an environment and the conversation held with it so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from agentprm_jax.actors.base import Action, Actor, ActorUnavailable, ConversationTooLong
from agentprm_jax.data.record import ACTION_CUT
from agentprm_jax.data.trajectory import ActorInfo, Message, Trajectory
from agentprm_jax.envs.base import Environment, Observation

MakeEnvironment = Callable[[], Environment]

ENDED_BY, CONTEXT = "ended_by", "context"
"""Key in a trajectory's `extra`, and its value where the actor's context ended what the round limit would not have."""


@dataclass
class Episode:
    """One episode in progress: the environment, what was said, what was paid, what it cost.

    Attributes:
        environment: owned by the episode; `close` or `fork` it through the episode.
        messages: the conversation so far, ending with an observation while the episode is open.
        rewards: one per action, the environment's own.
        cut: for each action whether the actor's token limit cut it off.
        ended: None while open, then "terminated" or "truncated".
        ended_by: "context" where the actor had no room for another action; else None.
        sampled_tokens: tokens that the actor sampled for the actions of this path.
        prompt_tokens: tokens of the prompts that these were sampled after, cached ones included; 0 where not known.
    """

    environment: Environment
    task: str
    messages: list[Message]
    rewards: list[float] = field(default_factory=list)
    cut: list[bool] = field(default_factory=list)
    ended: str | None = None
    ended_by: str | None = None
    sampled_tokens: int = 0
    prompt_tokens: int = 0

    @classmethod
    def start(cls, environment: Environment, task: str) -> Episode:
        """Resets `environment` to `task` and opens the conversation with its opening texts and first observation."""
        observation = environment.reset(task)
        opening = [Message(role=role, content=content) for role, content in environment.opening]
        return cls(environment, task, [*opening, Message(role="user", content=observation.text)])

    def act(self, action: str, tokens: int = 0, prompt_tokens: int = 0, *, complete: bool = True) -> Observation:
        """Takes one action and records it with the environment's answer.

        A final observation without text adds no message: nothing was said.
        """
        observation = self.environment.step(action)
        self.messages.append(Message(role="assistant", content=action, action=True))
        self.rewards.append(float(observation.reward))
        self.cut.append(not complete)
        self.sampled_tokens += tokens
        self.prompt_tokens += prompt_tokens
        if observation.terminated or observation.truncated:
            self.ended = "terminated" if observation.terminated else "truncated"
        if observation.text or self.ended is None:
            self.messages.append(Message(role="user", content=observation.text))
        return observation

    def take(self, action: Action) -> Observation:
        """Takes an action of the actor, and notes what it cost."""
        return self.act(action.text, action.tokens, action.prompt_tokens, complete=action.complete)

    @property
    def outcome(self) -> float:
        """What the rewards paid so far come to, by the environment's own rule."""
        return float(self.environment.outcome(self.rewards))

    def fork(self) -> Episode:
        """Returns an independent copy in the same state; only open episodes are worth forking."""
        return replace(
            self,
            environment=self.environment.fork(),
            messages=list(self.messages),
            rewards=list(self.rewards),
            cut=list(self.cut),
        )

    def close(self) -> None:
        """Releases the environment."""
        self.environment.close()

    def trajectory(self, identifier: str, split: str, actor: ActorInfo, extra: dict | None = None) -> Trajectory:
        """Returns the record of this ended episode; its `extra` tells `ended_by` and `action_cut`, if anything.

        Raises:
            ValueError: the episode is still open, so it has no outcome yet.
        """
        if self.ended is None:
            raise ValueError(f"Episode {identifier} of task {self.task} is still open: it has no outcome to record.")
        return Trajectory(
            id=identifier,
            env=self.environment.name,
            task=self.task,
            split=split,
            messages=tuple(self.messages),
            rewards=tuple(self.rewards),
            outcome=self.outcome,
            success=self.outcome > 0.0,
            ended=self.ended,
            actor=actor,
            extra={
                **(extra or {}),
                **({ENDED_BY: self.ended_by} if self.ended_by else {}),
                **({ACTION_CUT: self.cut} if any(self.cut) else {}),
            },
        )


def ask(
    actor: Actor,
    episodes: Sequence[Episode],
    seeds: Sequence[int],
    *,
    samples: int,
    temperature: float,
    max_tokens: int,
) -> list[list[Action]]:
    """The actor's proposals for the next action of every episode.

    An episode that has outgrown the actor's context is ended, as truncated by the context, and gets no proposals: one
    long conversation does not stop the others.

    Raises:
        ConversationTooLong: not even the first action of some episodes has room; its places are those in `episodes`.
        ActorUnavailable: episodes got no answer; its places are those in `episodes`.
    """
    open_places = list(range(len(episodes)))
    answers: list[list[Action]] = [[] for _ in episodes]
    while open_places:
        try:
            given = actor.act(
                [episodes[place].messages for place in open_places],
                samples=samples,
                temperature=temperature,
                seed=[seeds[place] for place in open_places],
                max_tokens=max_tokens,
            )
        except ConversationTooLong as error:
            outgrown = [open_places[index] for index in error.conversations]
            for place in outgrown:
                if episodes[place].rewards:
                    episodes[place].ended, episodes[place].ended_by = "truncated", CONTEXT
            if unstarted := [place for place in outgrown if not episodes[place].rewards]:
                raise ConversationTooLong(unstarted, str(error)) from error
            open_places = [place for place in open_places if place not in set(outgrown)]
        except ActorUnavailable as error:
            raise ActorUnavailable([open_places[index] for index in error.conversations], str(error)) from error
        else:
            for place, actions in zip(open_places, given, strict=True):
                answers[place] = actions
            break
    return answers
