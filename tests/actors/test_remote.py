"""Laws of the remote actor, against a server that fails in every way."""

import asyncio
import dataclasses
import email.utils
import math
import os
import signal
import socket
import threading
import time

import pytest

from agentprm_jax.actors import Action, ActorRefused, ActorUnavailable, ConversationTooLong, RemoteActor, RemoteConfig
from agentprm_jax.data import Message
from tests.chat_server import CACHED_TOKENS, PROMPT_TOKENS, TOKENS, Reply, completion, failed, said

TALKS = [[Message("user", text)] for text in "abcd"]
SECRET = "sk-not-for-any-log"
GOOD = Reply(completion("fine"))
PASSING = {
    "too many requests": failed(429),
    "an error of the server": failed(500),
    "an overloaded server": failed(503),
    "an error that is no JSON": Reply(b"<html>Bad Gateway</html>", 502, {"Content-Type": "text/html"}),
    "an answer after the time limit": GOOD._replace(delay=1.5),
    "a cut connection": GOOD._replace(cut=True),
    "no answer at all": Reply(b"", headers={"Content-Length": 100}, cut=True),
    "malformed JSON": Reply(b'{"choices": [{'),
    "JSON without end": Reply(b'{"created": ' + b"[" * 100_000),
    "an error nested without end": Reply(b'{"error": ' + b"[" * 100_000, 500),
    "text instead of JSON": Reply(b"fine", headers={"Content-Type": "text/plain"}),
    "no choices": Reply(completion()),
    "more choices than asked for": Reply(completion("one", "two")),
    "no usage": Reply(completion("fine", usage=None)),
    "a negative count": Reply(completion("fine", usage={"prompt_tokens": 1, "completion_tokens": -1})),
    "more tokens than asked for": Reply(completion("fine", usage={"prompt_tokens": 1, "completion_tokens": 99})),
    "a text without tokens": Reply(completion("fine", usage={"prompt_tokens": 1, "completion_tokens": 0})),
    "more cached tokens than the prompt has": Reply(
        completion(
            "fine",
            usage={"prompt_tokens": 1, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2}},
        )
    ),
    "a choice that never ended": Reply(completion("fine", finish=None)),
    "a filtered choice": Reply(completion("fine", finish="content_filter")),
    "a text that is a number": Reply(completion(7)),
}


def beside(content, **fields):
    """An answer whose message says something else than its content."""
    answer = completion(content)
    answer["choices"][0]["message"] |= fields
    return Reply(answer)


@pytest.fixture
def actor(chat_server):
    """Makes an actor of the server that loses no time; `actor(**fields)` are those of its config."""
    made = []

    def make(**fields):
        quick = {"timeout": 1.0, "retries": 2, "first_wait": 0.001, "longest_wait": 0.01}
        made.append(RemoteActor(RemoteConfig(**{"model": "m", "base_url": chat_server.url, **quick, **fields})))
        return made[-1]

    yield make
    for one in made:
        one.close()


def action(text, tokens, logprob):
    """An action after a prompt of the usual length."""
    return Action(text, tokens, logprob, prompt_tokens=PROMPT_TOKENS)


def texts(answers):
    return [[action.text for action in actions] for actions in answers]


def test_a_request_holds_the_conversation_and_every_setting(actor, chat_server, monkeypatch):
    monkeypatch.setenv("SOME_KEY", SECRET)
    talk = [Message("system", "s"), Message("user", "u"), Message("assistant", "x", action=True), Message("user", "v")]
    actor(api_key_variable="SOME_KEY", stop=("\n",)).act([talk], samples=2, temperature=0.5, seed=3, max_tokens=7)
    request = chat_server.requests[0]
    seed = request.pop("seed")
    assert 0 <= seed < 2**31
    assert request == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "u"},
            {"role": "assistant", "content": "x"},
            {"role": "user", "content": "v"},
        ],
        "n": 2,
        "temperature": 0.5,
        "max_tokens": 7,
        "stop": ["\n"],
        "logprobs": True,
    }
    assert chat_server.headers[0]["Authorization"] == f"Bearer {SECRET}"


def test_the_length_limit_goes_under_the_name_that_the_server_knows(actor, chat_server):
    actor(length_parameter="max_completion_tokens", logprobs=False).act(TALKS[:1], max_tokens=5)
    assert chat_server.requests[0]["max_completion_tokens"] == 5
    assert not chat_server.requests[0].keys() & {"max_tokens", "stop", "logprobs"}


def test_answers_come_in_the_order_of_conversations_and_of_indices(actor, chat_server):
    def backwards(request):
        answer = said(request)
        answer.body["choices"].reverse()
        return answer._replace(delay=0.1 if request["messages"][0]["content"] == "a" else 0.0)

    chat_server.usual = backwards
    found = texts(actor().act(TALKS, samples=3))
    assert [[text.split()[::2] for text in own] for own in found] == [[[c, str(k)] for k in range(3)] for c in "abcd"]


def test_the_same_call_asks_for_the_same_and_seed_conversation_and_sample_change_the_seed(actor, chat_server):
    one = actor()
    first = one.act(TALKS, seed=1)
    assert one.act(TALKS, seed=[1] * 4) == actor().act(TALKS[::-1], seed=1)[::-1] == first
    assert one.act(TALKS[:1], seed=2) != first[:1]
    assert len({request["seed"] for request in chat_server.requests}) == 5


def test_equal_questions_of_a_call_are_one_request(actor, chat_server):
    found = actor().act([TALKS[0], TALKS[1], TALKS[0]])
    assert found[0] == found[2] != found[1]
    assert len(chat_server.requests) == 2


def test_choices_that_a_server_left_out_are_asked_for_under_seeds_of_their_own(actor, chat_server):
    chat_server.usual = lambda request: said({**request, "n": 1})
    one = actor()
    found = one.act(TALKS[:1], samples=3)
    assert [request["n"] for request in chat_server.requests] == [3, 2, 1]
    assert len(set(texts(found)[0])) == 3
    assert one.usage.sampled_tokens == 3 * TOKENS


def test_at_temperature_0_one_choice_is_asked_for_and_counted_and_all_samples_are_it(actor, chat_server):
    chat_server.usual = lambda request: said(request) if request["n"] == 1 else failed(400, "n must be 1 when greedy")
    one = actor()
    found = one.act(TALKS[:2], samples=3, temperature=0)
    assert [len(set(actions)) for actions in found] == [1, 1]
    assert [len(actions) for actions in found] == [3, 3]
    assert len(chat_server.requests) == 2
    assert one.usage.sampled_tokens == 2 * TOKENS


def test_choices_that_came_before_a_failure_are_kept_and_only_the_rest_is_asked_for_again(actor, chat_server):
    def failing_at_the_third(request):
        if request["messages"][0]["content"] == "b":
            return failed(400, "no room", code="context_length_exceeded")
        return failed(500) if request["n"] == 1 else said({**request, "n": 1})

    chat_server.usual = failing_at_the_third
    one = actor(retries=0)
    with pytest.raises(ConversationTooLong):
        one.act(TALKS[:2], samples=3)
    with pytest.raises(ActorUnavailable, match="asked about 1 times"):
        one.act(TALKS[:1], samples=3)
    chat_server.usual = lambda request: said({**request, "n": 1})
    found = one.act(TALKS[:1], samples=3)
    assert [q["n"] for q in chat_server.requests if q["messages"][0]["content"] == "a"] == [3, 2, 1, 1]
    assert one.usage.sampled_tokens == 3 * TOKENS
    assert one.act(TALKS[:1], samples=3) == found
    assert len(chat_server.requests) == 5 + 3


def test_usage_is_what_the_server_counts(actor):
    one = actor()
    one.act(TALKS, samples=2)
    assert one.usage == (4 * (PROMPT_TOKENS - CACHED_TOKENS), 8 * TOKENS, 4 * CACHED_TOKENS)


def test_tokens_of_an_answer_are_shared_out_and_log_probabilities_are_summed(actor, chat_server):
    uneven = completion("a", "b", "c", "d", usage={"prompt_tokens": 1, "completion_tokens": 7})
    chat_server.script = [Reply(uneven), Reply(completion("e", "f", logprob=-0.5)), Reply(completion("g"))]
    one = actor()
    assert [action.tokens for action in one.act(TALKS[:1], samples=4)[0]] == [2, 2, 2, 1]
    assert one.act(TALKS[:1], samples=2) == [[action("e", TOKENS, -1.5), action("f", TOKENS, -1.5)]]
    assert math.isnan(one.act(TALKS[:1])[0][0].logprob)


def test_log_probabilities_that_add_up_tell_the_tokens_of_each_choice(actor, chat_server):
    answer = completion("a", "b", logprob=-1.0)
    answer["choices"][0]["logprobs"]["content"] = [{"logprob": -1.0}]
    answer["usage"]["completion_tokens"] = 1 + TOKENS
    chat_server.script = [Reply(answer)]
    assert actor().act(TALKS[:1], samples=2) == [[action("a", 1, -1.0), action("b", TOKENS, -3.0)]]


def test_fewer_tokens_than_choices_that_say_something_cannot_be_true_and_silence_may_cost_none(actor, chat_server):
    counts = {"prompt_tokens": 1, "completion_tokens": 1}
    chat_server.script = [Reply(completion("a", "b", usage=counts)), Reply(completion("a", None, usage=counts))]
    assert texts(actor().act(TALKS[:1], samples=2)) == [["a", ""]]
    assert len(chat_server.requests) == 2
    chat_server.usual = lambda request: Reply(completion(None, usage={**counts, "completion_tokens": 0}))
    assert texts(actor(retries=0).act(TALKS[:1])) == [[""]]


def test_an_action_is_complete_unless_the_limit_cut_it_off_and_holds_no_stop_text(actor, chat_server):
    chat_server.script = [
        Reply(completion("cut o", finish="length")),
        Reply(completion("go left\nand then", finish="length")),
        Reply(completion(None)),
    ]
    one = actor(stop=("\n", "left\n"))
    found = [one.act(TALKS[:1])[0][0] for _ in range(3)]
    assert [(action.text, action.complete) for action in found] == [("cut o", False), ("go ", True), ("", True)]


@pytest.mark.parametrize("content", ["", None])
@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "refusal", "tool_calls"])
def test_what_is_said_elsewhere_than_in_the_content_is_no_silent_action(actor, chat_server, field, content):
    elsewhere = [{"function": {"name": "go"}}] if field == "tool_calls" else "go, I think"
    chat_server.script = [beside(content, **{field: elsewhere})]
    with pytest.raises(ActorUnavailable, match=rf"a choice has {field} and no content, expected .*go"):
        actor(retries=0).act(TALKS[:1])
    chat_server.usual = lambda request: beside("left", **{field: elsewhere})
    assert texts(actor(retries=0).act(TALKS[:1])) == [["left"]]
    chat_server.usual = lambda request: beside(content, **{field: type(elsewhere)()})
    assert texts(actor(retries=0).act(TALKS[:1])) == [[""]]


@pytest.mark.parametrize("failure", PASSING.values(), ids=PASSING)
def test_a_failure_that_may_pass_costs_a_request_and_nothing_else(actor, chat_server, failure):
    chat_server.script = [failure, GOOD]
    assert texts(actor().act(TALKS[:1], max_tokens=16)) == [["fine"]]
    assert chat_server.requests[0] == chat_server.requests[1]


@pytest.mark.parametrize("failure", PASSING.values(), ids=PASSING)
def test_a_failure_that_stays_is_told_after_all_retries_and_the_others_are_answered(actor, chat_server, failure):
    chat_server.usual = lambda request: failure if request["messages"][0]["content"] == "c" else GOOD
    one = actor(timeout=0.3, retries=1)
    with pytest.raises(ActorUnavailable, match=r"1 of 4 .* Conversation 2 was asked about 2 times; the last") as caught:
        one.act(TALKS, max_tokens=16)
    assert caught.value.conversations == (2,)
    assert len(chat_server.requests) == 5
    assert texts(one.act([TALKS[0], TALKS[1], TALKS[3]], max_tokens=16)) == [["fine"]] * 3
    assert len(chat_server.requests) == 5


def test_what_was_answered_is_given_once_and_a_failure_is_asked_about_anew(actor, chat_server):
    chat_server.script = [failed(500)]
    one = actor(retries=0, concurrency=1)
    with pytest.raises(ActorUnavailable):
        one.act(TALKS[:2])
    one.act(TALKS[:2])
    one.act(TALKS[:2])
    assert len(chat_server.requests) == 2 + 1 + 2


@pytest.mark.parametrize("told", ["seconds", "date"])
def test_it_waits_as_long_as_the_server_says(actor, chat_server, told):
    value = "0.4" if told == "seconds" else email.utils.formatdate(time.time() + 2, usegmt=True)
    chat_server.script = [failed(429, headers={"Retry-After": value})]
    actor(longest_wait=60.0).act(TALKS[:1])
    assert chat_server.times[1] - chat_server.times[0] > 0.35


@pytest.mark.parametrize("value", ["999999999", "soon", "Fri, 31 Dec 99999 23:59:59 GMT", "-1"])
def test_a_senseless_wish_to_wait_is_bounded(actor, chat_server, value):
    chat_server.script = [failed(503, headers={"Retry-After": value})]
    actor().act(TALKS[:1])
    assert chat_server.times[1] - chat_server.times[0] < 0.5


def test_waits_double_up_to_the_longest(actor, chat_server):
    chat_server.script = [failed(500)] * 4
    actor(retries=4, first_wait=0.1, longest_wait=0.2).act(TALKS[:1])
    waits = [after - before for before, after in zip(chat_server.times, chat_server.times[1:], strict=False)]
    assert all(0.5 * most <= wait < most + 0.1 for wait, most in zip(waits, [0.1, 0.2, 0.2, 0.2], strict=True))


def test_no_more_requests_are_in_flight_than_allowed_and_as_many_are(actor, chat_server):
    chat_server.usual = lambda request: GOOD._replace(delay=0.05)
    actor(concurrency=3).act([[Message("user", str(number))] for number in range(12)])
    assert chat_server.most_at_once == 3


def test_the_time_limit_of_a_request_does_not_run_while_it_waits_for_its_turn(actor, chat_server):
    chat_server.usual = lambda request: GOOD._replace(delay=0.2)
    actor(concurrency=1, timeout=0.6).act(TALKS)
    assert len(chat_server.requests) == 4


@pytest.mark.parametrize(
    "failure",
    [
        failed(400, "too long", code="context_length_exceeded"),
        failed(400, "This model's maximum context length is 128 tokens. However, you requested 140.", code=400),
        failed(400, "the request exceeds the available context size", type="exceed_context_size_error"),
        failed(422, "The input is longer than the model's context length (64 tokens)."),
    ],
)
def test_conversations_beyond_the_servers_context_are_named_all_at_once(actor, chat_server, failure):
    def usual(request):
        content = request["messages"][0]["content"]
        return failure if content in "bd" else failed(500) if content == "c" else GOOD

    chat_server.usual = usual
    one = actor(retries=1)
    with pytest.raises(ConversationTooLong, match="Conversation 1 and an action have no room") as caught:
        one.act(TALKS)
    assert caught.value.conversations == (1, 3)
    count = len(chat_server.requests)
    with pytest.raises(ActorUnavailable) as unavailable:
        one.act([TALKS[0], TALKS[2]])
    assert unavailable.value.conversations == (1,)
    assert texts(one.act(TALKS[:1])) == [["fine"]]
    assert len(chat_server.requests) == count == 1 + 2 + 2


def test_a_question_that_the_server_refuses_is_not_repeated(actor, chat_server):
    chat_server.usual = lambda request: failed(400, "logprobs are not supported")
    with pytest.raises(ActorUnavailable, match=r"asked about 1 times; .* answered 400: .*logprobs are not"):
        actor().act(TALKS[:1])
    assert len(chat_server.requests) == 1


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_server_that_answers_nobody_ends_the_call_without_the_key_in_its_message(
    actor, chat_server, monkeypatch, status
):
    monkeypatch.setenv("SOME_KEY", SECRET)
    chat_server.usual = lambda request: failed(status, f"no model for {SECRET}")
    with pytest.raises(ActorRefused, match=r"no model for \*\*\*.* variable SOME_KEY, which is set") as caught:
        actor(api_key_variable="SOME_KEY", concurrency=1).act(TALKS)
    assert SECRET not in str(caught.value)
    assert len(chat_server.requests) < len(TALKS)


@pytest.mark.parametrize("status", [401, 403, 404])
@pytest.mark.parametrize("answered", ["before", "in flight"])
def test_a_refusal_costs_its_own_conversation_where_others_are_answered(actor, chat_server, status, answered):
    def usual(request):
        refused = request["messages"][0]["content"] == "c"
        return failed(status, "not this text") if refused else GOOD._replace(delay=0.2)

    chat_server.usual = usual
    one = actor()
    if answered == "before":
        one.act(TALKS[:1])
    with pytest.raises(ActorUnavailable, match=rf"1 of 4 .*asked about 1 times.*{status}: .*not this text") as caught:
        one.act(TALKS)
    assert caught.value.conversations == (2,)
    assert texts(one.act([TALKS[0], TALKS[1], TALKS[3]])) == [["fine"]] * 3


def test_texts_that_are_forbidden_end_nothing_where_others_were_answered_and_count_as_no_expired_key(
    actor, chat_server
):
    talks = [[Message("user", str(number))] for number in range(20)]
    chat_server.script = [GOOD, *[failed(401, "no key")] * 4]
    chat_server.usual = lambda request: failed(403, "not this text")
    one = actor(concurrency=1)
    with pytest.raises(ActorUnavailable, match=r"19 of 20 .*401: .*no key") as caught:
        one.act(talks)
    assert caught.value.conversations == tuple(range(1, 20))
    assert len(chat_server.requests) == 20
    assert texts(one.act(talks[:1])) == [["fine"]]


@pytest.mark.parametrize("status", [401, 404])
def test_several_refusals_in_a_row_end_a_call_that_had_answers_and_these_are_kept(actor, chat_server, status):
    talks = [[Message("user", str(number))] for number in range(20)]
    chat_server.script = [GOOD] * 3
    chat_server.usual = lambda request: failed(status, "the key has expired")
    one = actor(concurrency=1)
    with pytest.raises(ActorRefused, match=r"key has expired.* answered before, and has now refused 5 different"):
        one.act(talks)
    assert len(chat_server.requests) == 3 + 5
    chat_server.usual = lambda request: Reply(completion("late"))
    assert texts(one.act(talks)) == [["fine"]] * 3 + [["late"]] * 17
    assert len(chat_server.requests) == 3 + 5 + 17


def test_one_text_that_is_refused_again_and_again_ends_nothing(actor, chat_server):
    chat_server.script = [GOOD]
    chat_server.usual = lambda request: failed(403, "not this text")
    one = actor()
    one.act(TALKS[:1])
    for seed in range(8):
        with pytest.raises(ActorUnavailable, match="not this text"):
            one.act(TALKS[1:3], samples=2, seed=seed)


def test_a_refused_actor_asks_the_server_again_when_it_is_asked_again(actor, chat_server):
    chat_server.script = [failed(401)]
    one = actor()
    with pytest.raises(ActorRefused):
        one.act(TALKS[:1])
    assert len(one.act(TALKS[:1])) == 1


def test_a_missing_key_is_named_when_the_server_wants_one_and_what_was_sent_instead(actor, chat_server, monkeypatch):
    monkeypatch.delenv("SOME_KEY", raising=False)
    chat_server.script = [failed(401)]
    with pytest.raises(ActorRefused, match="variable SOME_KEY, which is not set or empty, so the word 'none' was sent"):
        actor(api_key_variable="SOME_KEY").act(TALKS[:1])
    assert chat_server.headers[0]["Authorization"] == "Bearer none"


def test_a_port_where_nobody_listens_is_named(actor):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        with pytest.raises(ActorUnavailable, match=rf"2 of 2 .*{url}.* the connection failed") as caught:
            actor(base_url=url).act(TALKS[:2])
    assert caught.value.conversations == (0, 1)


def test_nothing_to_answer_is_nothing_to_ask(actor, chat_server):
    assert actor().act([]) == []
    assert chat_server.requests == []


@pytest.mark.parametrize("wrong", [{"samples": 0}, {"max_tokens": 0}, {"seed": [1, 2]}])
def test_numbers_out_of_range_are_refused_before_anything_is_sent(actor, chat_server, wrong):
    with pytest.raises(ValueError, match=r"at least 1|argument 2"):
        actor().act(TALKS[:1], **wrong)
    assert chat_server.requests == []


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"base_url": "localhost:8000"}, "base_url must be an http:// or https:// address, got 'localhost:8000'"),
        ({"stop": ("",)}, "stop must be texts that are not empty"),
        ({"concurrency": 0}, "concurrency must be a whole number of at least 1, got 0"),
        ({"timeout": 0.0}, "timeout must be a finite number of seconds above 0, got 0.0"),
        ({"retries": -1}, "retries must be a whole number of at least 0, got -1"),
        ({"first_wait": math.inf}, "first_wait must be a finite number"),
        ({"first_wait": 2.0, "longest_wait": 1.0}, "longest_wait must be .* at least first_wait=2.0, got 1.0"),
    ],
)
def test_a_setting_out_of_range_is_named_with_what_was_expected(fields, complaint):
    with pytest.raises(ValueError, match=complaint):
        RemoteConfig(**fields)


def test_an_actor_without_a_model_is_refused():
    with pytest.raises(ValueError, match=r"RemoteConfig\.model must name a model"):
        RemoteActor(RemoteConfig())


def test_no_setting_holds_the_key(monkeypatch):
    monkeypatch.setenv("SOME_KEY", SECRET)
    made = RemoteActor(RemoteConfig(model="m", api_key_variable="SOME_KEY"))
    assert SECRET not in repr(dataclasses.asdict(made.config)) + repr(made)
    made.close()


async def within_a_loop(call):
    """As a cell of a notebook is run."""
    return call()


def in_a_notebook(call):
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(within_a_loop(call))
    finally:
        loop.close()


def test_an_actor_can_be_asked_where_a_loop_is_running_and_where_none_is(actor, chat_server):
    chat_server.usual = lambda request: GOOD
    asked = actor()
    said_there = in_a_notebook(lambda: asked.act(TALKS[:2]))
    assert [one.text for [one] in said_there] == ["fine", "fine"]
    assert [one.text for [one] in asked.act(TALKS[2:])] == ["fine", "fine"]
    chat_server.usual = lambda request: failed(401)
    with pytest.raises(ActorRefused):
        in_a_notebook(lambda: actor().act(TALKS))


def test_an_interrupt_ends_what_is_asked_where_a_loop_is_running(actor, chat_server):
    chat_server.usual = lambda request: GOOD._replace(delay=20.0)
    asked = actor(timeout=60.0)

    def interrupt():
        while not chat_server.requests:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        in_a_notebook(lambda: asked.act(TALKS[:1]))
    assert time.monotonic() - start < 15
