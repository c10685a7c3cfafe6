"""A remembering actor answers as the one it wraps, and asks it once."""

import pytest

from agentprm_jax.actors import Action, ActorUnavailable, ConversationTooLong
from agentprm_jax.actors.base import Usage
from agentprm_jax.actors.remembering import RememberingActor
from agentprm_jax.data import Message


class Counting:
    """Says a function of conversation, seed, temperature and sample; fails on those of ten messages or more."""

    name = "counting"

    def __init__(self, failure=ConversationTooLong):
        self.calls = []
        self.failure = failure

    @property
    def usage(self):
        return Usage(sampled_tokens=sum(count * samples for count, samples in self.calls))

    def act(self, conversations, *, samples=1, temperature=1.0, seed=0, max_tokens=32):
        long = [place for place, messages in enumerate(conversations) if len(messages) >= 10]
        if long:
            raise self.failure(long, "too long")
        self.calls.append((len(conversations), samples))
        seeds = [seed] * len(conversations) if isinstance(seed, int) else seed
        return [
            [Action(f"{messages[-1].content} {one} {temperature} {max_tokens} {k}", 1, 0.0) for k in range(samples)]
            for messages, one in zip(conversations, seeds, strict=True)
        ]


def talk(*texts):
    return [Message("user", text) for text in texts]


REQUESTS = [
    ([talk("a"), talk("b")], {"samples": 2, "seed": [1, 2]}),
    ([talk("b"), talk("a"), talk("a", "b")], {"samples": 1, "seed": [2, 1, 1]}),
    ([talk("a")], {"samples": 3, "seed": 1}),
    ([talk("a")], {"samples": 3, "seed": 1, "temperature": 0.5}),
    ([talk("a")], {"samples": 3, "seed": 1, "max_tokens": 4}),
    ([talk("a"), talk("a")], {"samples": 1, "seed": [1, 3]}),
]


def test_it_answers_as_the_actor_that_it_wraps():
    actor, plain = RememberingActor(Counting()), Counting()
    assert actor.name == "counting"
    for conversations, options in REQUESTS * 2:
        assert actor.act(conversations, **options) == plain.act(conversations, **options)


def test_nothing_is_asked_twice_and_fewer_samples_are_the_first_ones():
    inner = Counting()
    actor = RememberingActor(inner)
    for conversations, options in REQUESTS:
        actor.act(conversations, **options)
    asked = list(inner.calls)
    assert asked[:3] == [(2, 2), (1, 1), (1, 3)]
    for conversations, options in REQUESTS:
        actor.act(conversations, **options)
    assert inner.calls == asked


def test_the_oldest_conversations_are_forgotten():
    inner = Counting()
    actor = RememberingActor(inner, most_conversations=2)
    for text in "abca":
        actor.act([talk(text)])
    assert inner.calls == [(1, 1)] * 4
    actor.act([talk("c"), talk("a")])
    assert len(inner.calls) == 4


@pytest.mark.parametrize("failure", [ConversationTooLong, ActorUnavailable])
def test_places_of_conversations_that_fail_are_those_of_the_call(failure):
    actor = RememberingActor(Counting(failure))
    actor.act([talk("a")])
    with pytest.raises(failure) as caught:
        actor.act([talk("a"), talk("b"), talk(*"abcdefghij")])
    assert caught.value.conversations == (2,)
