"""An actor that is asked once: searches with many scorers meet the same conversations again."""

from __future__ import annotations

from collections.abc import Sequence

from agentprm_jax.actors.base import Action, Actor, ActorUnavailable, ConversationTooLong, Usage
from agentprm_jax.actors.request_key import request_key
from agentprm_jax.data.trajectory import Message

MOST_CONVERSATIONS = 1 << 18


class RememberingActor:
    """Passes on what it has not been asked before; answers the rest from memory.

    For the caller it is the actor that it wraps, as long as that one's k-th sample is a function of conversation, seed,
    temperature, length limit and k, as the native sampler's is.

    Attributes:
        name: of the wrapped actor.
    """

    def __init__(self, actor: Actor, most_conversations: int = MOST_CONVERSATIONS):
        """Wraps an actor; of more conversations than given the oldest are forgotten."""
        self.name = actor.name
        self._actor = actor
        self._most = most_conversations
        self._known: dict[bytes, tuple[Action, ...]] = {}

    @property
    def usage(self) -> Usage:
        """Tokens of the wrapped actor: what came from memory costs none."""
        return self._actor.usage

    def act(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        samples: int = 1,
        temperature: float = 1.0,
        seed: int | Sequence[int] = 0,
        max_tokens: int = 32,
    ) -> list[list[Action]]:
        """Samples the next assistant message of every conversation; see `Actor.act`.

        Raises:
            ConversationTooLong, ActorUnavailable: as the wrapped actor does, with places of this call.
        """
        seeds = [seed] * len(conversations) if isinstance(seed, int) else list(seed)
        keys = [
            request_key(messages, one, temperature, max_tokens)
            for messages, one in zip(conversations, seeds, strict=True)
        ]
        new = [place for place, key in enumerate(keys) if len(self._known.get(key, ())) < samples]
        if new:
            self._ask(conversations, keys, seeds, new, samples, temperature, max_tokens)
        answers = [list(self._known[key][:samples]) for key in keys]
        while len(self._known) > self._most:
            del self._known[next(iter(self._known))]
        return answers

    def _ask(
        self,
        conversations: Sequence[Sequence[Message]],
        keys: Sequence[bytes],
        seeds: Sequence[int],
        places: Sequence[int],
        samples: int,
        temperature: float,
        max_tokens: int,
    ) -> None:
        try:
            given = self._actor.act(
                [conversations[place] for place in places],
                samples=samples,
                temperature=temperature,
                seed=[seeds[place] for place in places],
                max_tokens=max_tokens,
            )
        except (ConversationTooLong, ActorUnavailable) as error:
            raise type(error)([places[index] for index in error.conversations], str(error)) from error
        for place, actions in zip(places, given, strict=True):
            self._known[keys[place]] = tuple(actions)
