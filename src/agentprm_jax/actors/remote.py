"""A remote actor: a model behind an OpenAI-compatible server, asked concurrently and with patience."""

from __future__ import annotations

import asyncio
import email.utils
import os
import random
import re
import time
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

from agentprm_jax.actors.base import Action, ActorRefused, ActorUnavailable, ConversationTooLong, Usage
from agentprm_jax.actors.chat_answer import BadAnswer, answer_actions, answer_usage, read_answer
from agentprm_jax.actors.config import RemoteConfig
from agentprm_jax.actors.request_key import request_key, request_seed
from agentprm_jax.data.trajectory import Message

try:
    import openai
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("A remote actor needs the package 'openai': install agentprm-jax[remote].") from error

Result = TypeVar("Result")

_NO_KEY = "none"  # the client insists on sending a key
_PASSING = frozenset({408, 409, 425, 429})  # and all from 500 on
_FOR_ALL = frozenset({401, 404})  # an unknown or expired key, no such model
_FORBIDDEN = 403  # a key that may not use the model; but also a single text that a gateway does not let through
_REFUSED_IN_A_ROW = 5  # conversations: with an expired key all are refused, while a text that is not allowed is one
_TOO_LONG = re.compile(r"context[ _](length|window|size)|max(imum)?[ _]model[ _]len|(prompt|input) is too long", re.I)


class _Question(NamedTuple):
    """What is asked about one conversation."""

    messages: Sequence[Message]
    samples: int
    temperature: float
    seed: int
    max_tokens: int


class _NoRoom(NamedTuple):
    """The server's context does not hold the conversation and an action."""

    reason: str


class _NoAnswer(NamedTuple):
    """The server was asked `requests` times for a part of the answer, and failed every time."""

    reason: str
    requests: int


_Outcome = list[Action] | _NoRoom | _NoAnswer


class RemoteActor:
    """Asks a server for actions.

    The server is told a seed that is a function of the actor's seed, the conversation and the number of the sample, so
    that the same call asks for the same. Whether it then answers the same is up to the server.

    All samples of a conversation are one request with `n`. Where the server gives fewer choices (some ignore `n`), the
    rest is asked for under seeds of their own, until all are there; the prompt is then read and counted again. Choices
    of a conversation whose rest got no answer are kept for the next call: only what is missing is asked for then.
    At temperature 0 all samples are the same: one is asked for (some servers refuse more), counted once, and repeated.

    A request that fails in a way that may pass (no connection, out of time, status 408, 409, 425, 429 or 500 and above,
    an answer that cannot be true) is sent again after a wait, `RemoteConfig.retries` times. Answers are counted in
    `usage` also where they could not be used.

    Status 401, 403 or 404 means everybody where no request was ever answered. Afterwards it means one conversation, as
    where a service refuses a single text, and that counts as unanswered; but where 401 or 404 comes for several
    different conversations with no answer between them, as when a key has expired, it means everybody again.

    Attributes:
        name: of the model on the server.
        config: how the server is asked.
    """

    def __init__(self, config: RemoteConfig):
        """Reads the key from the environment; sends nothing yet.

        Raises:
            ValueError: no model is named.
        """
        if not config.model:
            raise ValueError("RemoteConfig.model must name a model of the server, got ''.")
        self.name = config.model
        self.config = config
        self._key = os.environ.get(config.api_key_variable, "")
        self._client = openai.AsyncOpenAI(
            api_key=self._key or _NO_KEY, base_url=config.base_url, max_retries=0, timeout=None
        )
        self._runner = asyncio.Runner()
        self._usage = Usage()
        self._untold: dict[bytes, _Outcome] = {}
        self._begun: dict[bytes, list[Action]] = {}  # what there is of the last call's questions, all or in part
        self._answered = False
        self._refusal: _NoAnswer | None = None
        self._refused_since: set[bytes] = set()  # conversations that were refused since the last answer

    @property
    def usage(self) -> Usage:
        """Tokens of all answers so far, as the server counts them."""
        return self._usage

    def close(self) -> None:
        """Closes the connections; the actor cannot be asked any more."""
        self._run(self._client.close())
        self._runner.close()

    def act(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        samples: int = 1,
        temperature: float = 1.0,
        seed: int | Sequence[int] = 0,
        max_tokens: int = 32,
    ) -> list[list[Action]]:
        """Samples the next assistant message of every conversation; equal questions are asked once.

        Args:
            conversations: the messages so far of each conversation.
            samples: actions for each conversation.
            temperature: of the sampling; the server knows its limits.
            seed: one for all conversations, or one for each.
            max_tokens: most tokens an action may have. One that is cut off there is returned with `complete=False`.

        Returns:
            `samples` actions for each conversation, in order.

        Raises:
            ValueError: a number is out of range, or there is not one seed for each conversation.
            ConversationTooLong: the server's context does not hold a conversation.
            ActorUnavailable: conversations got no answer, or not all of it. As with the error above, answers of the
                others are kept: the next call is given those that it asks for again, without a request.
            ActorRefused: the server refuses the key (status 401 or 403) or does not know the model (404), and has
                answered nothing yet, or nothing since it refused several conversations with 401 or 404. Answers are
                kept as above.
        """
        if samples < 1 or max_tokens < 1:
            raise ValueError(f"samples and max_tokens should be at least 1, got {samples} and {max_tokens}.")
        seeds = [seed] * len(conversations) if isinstance(seed, int) else [int(one) for one in seed]
        asked = samples if temperature else 1
        questions = {}
        keys = []
        for messages, one in zip(conversations, seeds, strict=True):
            keys.append(request_key(messages, asked, temperature, one, max_tokens))
            questions[keys[-1]] = _Question(messages, asked, temperature, one, max_tokens)
        outcomes = {key: self._untold[key] for key in questions.keys() & self._untold.keys()}
        self._begun = {key: self._begun.get(key, []) for key in questions}
        new = [key for key in questions if key not in outcomes]
        if new:
            answers = self._run(self._ask_all([(questions[key], self._begun[key]) for key in new]))
            outcomes |= dict(zip(new, answers, strict=True))
        self._untold = outcomes
        self._tell_failures(keys, _NoRoom)
        self._tell_failures(keys, _NoAnswer)
        self._untold, self._begun = {}, {}
        return [actions * (samples // asked) for key in keys if isinstance(actions := outcomes[key], list)]

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Runs to the end; in a thread where this one has a loop that is running, as in a notebook."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._runner.run(work)
        with ThreadPoolExecutor(1) as thread:
            running = thread.submit(self._runner.run, work)
            try:
                return running.result()
            except BaseException:
                if not running.done():  # it was this thread that was interrupted
                    self._runner.get_loop().call_soon_threadsafe(self._cancel)
                raise

    def _cancel(self) -> None:
        for task in asyncio.all_tasks():
            task.cancel()

    def _tell_failures(self, keys: Sequence[bytes], kind: type[_NoRoom] | type[_NoAnswer]) -> None:
        """Raises for all conversations with such an outcome, which is forgotten: they may be asked about anew."""
        told = {key: outcome for key in keys if isinstance(outcome := self._untold[key], kind)}
        if not told:
            return
        places = [place for place, key in enumerate(keys) if key in told]
        self._untold = {key: outcome for key, outcome in self._untold.items() if key not in told}
        first = told[keys[places[0]]]
        server = f"{self.config.base_url} (model {self.name})"
        if isinstance(first, _NoRoom):
            raise ConversationTooLong(
                places,
                f"Conversation {places[0]} and an action have no room in the context of {server}: {first.reason}",
            )
        raise ActorUnavailable(
            places,
            f"{len(places)} of {len(keys)} conversations got no answer from {server}. Conversation {places[0]} was "
            f"asked about {first.requests} times; the last time {first.reason}.",
        )

    async def _ask_all(self, questions: Sequence[tuple[_Question, list[Action]]]) -> list[_Outcome]:
        slots = asyncio.Semaphore(self.config.concurrency)
        self._refusal = None
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._answer(question, begun, slots)) for question, begun in questions]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        if self._refusal and self._refuses_all:
            raise ActorRefused(self._refused(self._refusal.reason))
        return [task.result() for task in tasks]

    async def _answer(self, question: _Question, begun: list[Action], slots: asyncio.Semaphore) -> _Outcome:
        """All actions of a conversation, by as many requests as the server makes of it; `begun` takes what comes."""
        while len(begun) < question.samples:
            outcome = await self._ask(question, len(begun), slots)
            if not isinstance(outcome, list):
                return outcome
            begun += outcome
        return begun

    async def _ask(self, question: _Question, first: int, slots: asyncio.Semaphore) -> _Outcome:
        """Actions from number `first` on: one request, sent again while its failures may pass."""
        seed = request_seed(question.messages, question.seed, first)
        body = self._body(question, first, seed)
        jitter = random.Random(seed)
        failures = 0
        while True:
            failures, told = failures + 1, None
            try:
                async with slots, asyncio.timeout(self.config.timeout):
                    if self._refusal and self._refuses_all:
                        return self._refusal  # those in flight may still show that it does not mean everybody
                    response = await self._client.chat.completions.with_raw_response.create(**body)
                return self._actions(response.content, question, first)
            except BadAnswer as error:
                reason = f"the answer could not be used: {error}"
            except TimeoutError:
                reason = f"there was no answer within {self.config.timeout:g} s"
            except openai.APIStatusError as error:
                reason, told = self._status_reason(error), error.response.headers
                if _no_room(error):
                    return _NoRoom(reason)
                if error.status_code in _FOR_ALL or (error.status_code == _FORBIDDEN and not self._answered):
                    self._refused_since.add(request_key(question.messages))
                    self._refusal = _NoAnswer(reason, failures)
                    return self._refusal
                if error.status_code not in _PASSING and error.status_code < 500:
                    return _NoAnswer(reason, failures)
            except openai.APIConnectionError as error:
                reason = f"the connection failed ({error.__cause__ or error})"
            if failures > self.config.retries:
                return _NoAnswer(reason, failures)
            await asyncio.sleep(self._wait(failures, jitter, told))

    def _body(self, question: _Question, first: int, seed: int) -> dict[str, Any]:
        """The arguments of one request."""
        body = {
            "model": self.config.model,
            "messages": [{"role": message.role, "content": message.content} for message in question.messages],
            "n": question.samples - first,
            "temperature": question.temperature,
            "seed": seed,
            self.config.length_parameter: question.max_tokens,
        }
        if self.config.stop:
            body["stop"] = list(self.config.stop)
        if self.config.logprobs:
            body["logprobs"] = True
        return body

    def _actions(self, body: bytes, question: _Question, first: int) -> list[Action]:
        answer = read_answer(body)
        self._usage = Usage(*map(sum, zip(self._usage, answer_usage(answer), strict=True)))
        most = question.samples - first
        actions = answer_actions(answer, most=most, max_tokens=question.max_tokens, stop=self.config.stop)
        self._answered = True
        self._refused_since.clear()
        return actions

    @property
    def _refuses_all(self) -> bool:
        """Whether a refusal means everybody, as long as nothing is answered."""
        return not self._answered or len(self._refused_since) >= _REFUSED_IN_A_ROW

    def _wait(self, failures: int, jitter: random.Random, headers: Mapping[str, str] | None) -> float:
        """Seconds before the next sending: as long as the server says, or half to all of a doubling time."""
        doubled = min(self.config.first_wait * 2.0 ** (failures - 1), self.config.longest_wait)
        told = _retry_after(headers or {})
        return doubled * jitter.uniform(0.5, 1.0) if told is None else min(told, self.config.longest_wait)

    def _status_reason(self, error: openai.APIStatusError) -> str:
        """What the server said; a key that it repeats is struck out."""
        said = error.response.text
        return f"it answered {error.status_code}: {(said.replace(self._key, '***') if self._key else said)[:500]!r}"

    def _refused(self, reason: str) -> str:
        variable = self.config.api_key_variable
        state = "is set" if self._key else f"is not set or empty, so the word {_NO_KEY!r} was sent as the key"
        since = (
            f" It has answered before, and has now refused {len(self._refused_since)} different conversations in a "
            "row, so no more are sent; what was finished is kept."
        )
        return (
            f"The server at {self.config.base_url} refuses model {self.name!r}: {reason}.{since * self._answered} The "
            f"key is read from the environment variable {variable}, which {state}."
        )


def _no_room(error: openai.APIStatusError) -> bool:
    """Whether a server says that prompt and action exceed its context; OpenAI has a code for it, others a sentence."""
    said = error.status_code in (400, 413, 422) and bool(_TOO_LONG.search(error.response.text))
    return error.code == "context_length_exceeded" or said


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the header Retry-After asks for, which it may give as a date; None where it says nothing."""
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
