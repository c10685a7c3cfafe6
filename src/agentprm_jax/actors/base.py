"""What an actor is: conversations in, sampled actions out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from agentprm_jax.data.trajectory import Message


class Action(NamedTuple):
    """One sampled assistant message.

    Attributes:
        text: what was said, without the token that ended the turn, and without the text to stop at, if one did.
        tokens: sampled tokens, those that ended the turn included; at least 1.
        logprob: sum of the log-probabilities (nats) of the sampled tokens under the actor's own distribution, that is
            at temperature 1 whatever temperature they were sampled with; nan where a server does not tell.
        complete: whether the actor ended its turn, or said a text to stop at; False when `max_tokens` cut it off.
        prompt_tokens: tokens of the conversation before it, those that were still in a cache included; 0 where nobody
            counts them.
    """

    text: str
    tokens: int
    logprob: float
    complete: bool = True
    prompt_tokens: int = 0


class Usage(NamedTuple):
    """Tokens that an actor has worked on so far.

    Attributes:
        prompt_tokens: tokens of prompts that were run through the model.
        sampled_tokens: tokens that were sampled.
        cached_tokens: tokens of prompts that were not run again, because an earlier call had done so.
    """

    prompt_tokens: int = 0
    sampled_tokens: int = 0
    cached_tokens: int = 0


class ConversationTooLong(ValueError):
    """Some conversations leave no room for an action in the actor's context; no conversation of the call is answered.

    Attributes:
        conversations: the places of all of them in the call.
    """

    def __init__(self, conversations: Sequence[int], message: str):
        """Takes the places, and a message that names the limit."""
        super().__init__(message)
        self.conversations = tuple(conversations)


class ActorUnavailable(RuntimeError):
    """Some conversations got no answer, after all retries; the others lose nothing.

    What the same call was answered for the others is kept, and given when they are asked about in the next call.

    Attributes:
        conversations: the places of those without an answer in the call.
    """

    def __init__(self, conversations: Sequence[int], message: str):
        """Takes the places, and a message that says what was asked and what came back."""
        super().__init__(message)
        self.conversations = tuple(conversations)


class ActorRefused(RuntimeError):
    """The actor answers nobody, as with a wrong key or an unknown model: asking again would change nothing."""


class Actor(Protocol):
    """A policy over conversations; calls are independent of each other for the caller."""

    @property
    def name(self) -> str:
        """The name recorded in trajectories."""
        ...

    @property
    def usage(self) -> Usage:
        """Tokens of all calls so far."""
        ...

    def act(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        samples: int = 1,
        temperature: float = 1.0,
        seed: int | Sequence[int] = 0,
        max_tokens: int = 32,
    ) -> list[list[Action]]:
        """Samples the next assistant message of every conversation.

        Args:
            conversations: the messages so far of each conversation.
            samples: actions for each conversation.
            temperature: of the sampling; 0 always takes the likeliest token.
            seed: one for all conversations, or one for each.
            max_tokens: most tokens an action may have, the end-of-turn token included.

        Returns:
            `samples` actions for each conversation, in the order of `conversations`.

        Raises:
            ConversationTooLong: conversations do not fit into the actor's context; none is answered then.
            ActorUnavailable: conversations got no answer from a server; those that fit and got one can be asked again.
            ActorRefused: a server answers nobody.
        """
        ...
