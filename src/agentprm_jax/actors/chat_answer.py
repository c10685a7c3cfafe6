"""What a chat server answers: read strictly, so that an answer that cannot be true is never taken for an action."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from agentprm_jax.actors.base import Action, Usage

_Count = Annotated[int, msgspec.Meta(ge=0)]


class BadAnswer(ValueError):
    """An answer that is no chat completion, or that contradicts itself or the question."""


class PromptDetails(msgspec.Struct):
    """How many tokens of the prompt the server had still in its cache."""

    cached_tokens: _Count | None = None


class AnswerUsage(msgspec.Struct):
    """Tokens of one answer, over all of its choices."""

    prompt_tokens: _Count
    completion_tokens: _Count
    prompt_tokens_details: PromptDetails | None = None


class TokenLogprob(msgspec.Struct):
    """One sampled token, in nats."""

    logprob: float


class Logprobs(msgspec.Struct):
    """The sampled tokens of one choice."""

    content: list[TokenLogprob] | None = None


class ChoiceMessage(msgspec.Struct):
    """What was said; servers leave out or null what is empty. All but the content is no action."""

    content: str | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: Any = None
    tool_calls: Any = None


class Choice(msgspec.Struct):
    """One of the actions that were asked for."""

    message: ChoiceMessage
    finish_reason: str | None
    index: int = 0
    logprobs: Logprobs | None = None


class Answer(msgspec.Struct):
    """The parts of a chat completion that an actor needs; a server may say more."""

    choices: list[Choice]
    usage: AnswerUsage


def read_answer(body: bytes) -> Answer:
    """Reads the body of an answer.

    Raises:
        BadAnswer: it is no JSON, nested without end, or lacks a part. Without `usage` nobody knows what was spent, and
            no token is recorded that was not counted, so such an answer is refused too.
    """
    try:
        return msgspec.json.decode(body, type=Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        shown = body[:200].decode(errors="replace")
        raise BadAnswer(f"it is no chat completion with choices and usage ({error}): {shown!r}") from error


def answer_usage(answer: Answer) -> Usage:
    """What an answer has cost.

    Raises:
        BadAnswer: more of the prompt was cached than it has.
    """
    read, details = answer.usage.prompt_tokens, answer.usage.prompt_tokens_details
    cached = (details.cached_tokens if details else None) or 0
    if cached > read:
        raise BadAnswer(f"it counts {cached} cached tokens in a prompt of {read}")
    return Usage(read - cached, answer.usage.completion_tokens, cached)


def answer_actions(answer: Answer, *, most: int, max_tokens: int, stop: Sequence[str]) -> list[Action]:
    """The actions of an answer, in the order of their indices.

    A server tells the tokens of all choices together. A choice's own are those of its log-probabilities where these
    add up, else an even share of at least 1.

    Args:
        answer: as read.
        most: choices that were asked for; a server may give fewer, one at least.
        max_tokens: most tokens of a choice.
        stop: texts at which an action ends; some servers leave them in.

    Raises:
        BadAnswer: no choice or too many, more tokens than were asked for or fewer than choices that say something, a
            choice whose text stands elsewhere than in its content (reasoning, a refusal, calls of tools), or one that
            neither ended nor was cut off at `max_tokens`.
    """
    choices = sorted(answer.choices, key=lambda choice: choice.index)
    if not 1 <= len(choices) <= most:
        raise BadAnswer(f"it has {len(choices)} choices, expected 1 to {most}")
    total = answer.usage.completion_tokens
    if total > max_tokens * len(choices):
        raise BadAnswer(
            f"it has {total} tokens in {len(choices)} choices of at most {max_tokens} tokens: the server takes the "
            "limit under another name (RemoteConfig.length_parameter)"
        )
    saying = sum(bool(choice.message.content) for choice in choices)
    if total < saying:
        raise BadAnswer(f"it counts {total} tokens in {saying} choices that say something, expected one each at least")
    counts, read = _token_counts(choices, total), answer.usage.prompt_tokens
    return [_action(choice, count, read, stop) for choice, count in zip(choices, counts, strict=True)]


def _token_counts(choices: Sequence[Choice], total: int) -> list[int]:
    counts = [len(content) for choice in choices if (content := _logprobs(choice))]
    if len(counts) == len(choices) and sum(counts) == total:
        return counts
    share, rest = divmod(total, len(choices))
    return [max(1, share + (place < rest)) for place in range(len(choices))]


def _action(choice: Choice, tokens: int, prompt_tokens: int, stop: Sequence[str]) -> Action:
    for field in ("reasoning_content", "reasoning", "refusal", "tool_calls"):
        if not choice.message.content and (beside := getattr(choice.message, field)):
            shown = str(beside)[:200]
            raise BadAnswer(f"a choice has {field} and no content, expected the action as content: {shown!r}")
    if choice.finish_reason not in ("stop", "length"):
        raise BadAnswer(f"a choice has the finish_reason {choice.finish_reason!r}, expected 'stop' or 'length'")
    said = choice.message.content or ""
    text = said[: min((place for one in stop if (place := said.find(one)) >= 0), default=len(said))]
    content = _logprobs(choice)
    logprob = math.fsum(token.logprob for token in content) if content else math.nan
    complete = choice.finish_reason == "stop" or text != said
    return Action(text, tokens, logprob, complete, prompt_tokens)


def _logprobs(choice: Choice) -> list[TokenLogprob]:
    return (choice.logprobs.content if choice.logprobs else None) or []
