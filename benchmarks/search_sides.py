"""Three ways of asking what a search asked: with conversations kept, forgotten before every call, or never shared."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from search_game import Recorder, SearchConfig, make_sampler

if TYPE_CHECKING:
    from search_game import Conversation

    from agentprm_jax.actors import NativeSampler
    from agentprm_jax.data import ChatEncoder
    from agentprm_jax.models import DecoderConfig

SIDES = ("kept", "shared", "whole")


class Side(NamedTuple):
    """One way of doing the work of a round.

    Attributes:
        name: of the side.
        rounds: places of the rounds that are timed.
        begin: called before a pass.
        ask: does a round; returns what is compared.
        tokens: tokens that it has run through the model so far.
    """

    name: str
    rounds: frozenset[int]
    begin: Callable[[], None]
    ask: Callable[[int], list[Any]]
    tokens: Callable[[], int]


def scoring_sides(
    recorder: Recorder, decoder: DecoderConfig, encoder: ChatEncoder, params: Any, timed: frozenset[int]
) -> list[Side]:
    """Three scorers of the same weights."""
    from agentprm_jax.data import Trajectory
    from agentprm_jax.scoring import Prm

    kept, shared, whole = (Prm(decoder, params, encoder, initial_value=0.0) for _ in SIDES)
    rounds = recorder.scored

    def trajectory(messages: Conversation) -> Trajectory:
        steps = sum(message.action for message in messages)
        return Trajectory(
            id="", env="made", task="", split="", messages=tuple(messages), rewards=(0.0,) * steps, ended="truncated"
        )

    def ask_shared(index: int) -> list[float]:
        shared.forget_conversations()
        return shared.score_conversations(rounds[index])

    def ask_whole(index: int) -> list[float]:
        return [scores.promise[-1] for scores in whole.score([trajectory(one) for one in rounds[index]])]

    every = frozenset(range(len(rounds)))
    lengths = sum(whole.length(trajectory(one)) for conversations in rounds for one in conversations)
    return [
        Side(
            "kept",
            every,
            kept.forget_conversations,
            lambda index: kept.score_conversations(rounds[index]),
            lambda: kept.tokens_scored,
        ),
        Side("shared", every, lambda: None, ask_shared, lambda: shared.tokens_scored),
        Side("whole", timed, lambda: None, ask_whole, lambda: lengths),
    ]


def acting_sides(
    config: SearchConfig,
    recorder: Recorder,
    decoder: DecoderConfig,
    encoder: ChatEncoder,
    params: Any,
    timed: frozenset[int],
) -> list[Side]:
    """Three samplers of the same weights."""
    kept, shared, whole = (make_sampler(config, decoder, encoder, params) for _ in SIDES)
    rounds = recorder.asked

    def ask(sampler: NativeSampler, index: int) -> list[str]:
        asked = rounds[index]
        given = sampler.act(asked.conversations, samples=asked.samples, seed=asked.seeds)
        return [action.text for actions in given for action in actions]

    def ask_shared(index: int) -> list[str]:
        shared.forget_conversations()
        return ask(shared, index)

    def ask_whole(index: int) -> list[str]:
        for sample in range(rounds[index].samples):
            whole.forget_conversations()
            seeds = [seed ^ (sample + 1) for seed in rounds[index].seeds]
            whole.act(rounds[index].conversations, seed=seeds)
        return []

    def run(sampler: NativeSampler) -> int:
        return sampler.usage.prompt_tokens + sampler.usage.sampled_tokens

    def whole_tokens() -> int:
        prompts = (asked.samples * len(encoder.prompt_tokens(one)) for asked in rounds for one in asked.conversations)
        return sum(prompts) + recorder.sampled_tokens

    every = frozenset(range(len(rounds)))
    return [
        Side("kept", every, kept.forget_conversations, lambda index: ask(kept, index), lambda: run(kept)),
        Side("shared", every, lambda: None, ask_shared, lambda: run(shared)),
        Side("whole", timed, lambda: None, ask_whole, whole_tokens),
    ]
