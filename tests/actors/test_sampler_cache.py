import pytest

from agentprm_jax.data import Message


def play(sampler, made, turns, **options):
    """Turns of all conversations; returns the actions of each turn."""
    said = []
    for turn in range(turns):
        answers = sampler.act(made, seed=turn, **options)
        said.append([action.text for (action,) in answers])
        for messages, (action,) in zip(made, answers, strict=True):
            messages += [Message("assistant", action.text, action=True), Message("user", f"{'abcdef'[turn]} k l")]
    return said


def copied(made):
    return [list(messages) for messages in made]


def test_cached_over_turns_equals_uncached_greedy(actor, conversations):
    made = conversations(7)
    shadow = copied(made)
    for turn, actions in enumerate(play(actor.sampler(), made, turns=3, temperature=0.0, max_tokens=4)):
        expected = [actor.greedy(messages, 4)[0] for messages in shadow]
        assert actions == expected
        for messages, text in zip(shadow, expected, strict=True):
            messages += [Message("assistant", text, action=True), Message("user", f"{'abcdef'[turn]} k l")]


@pytest.mark.parametrize(
    "sizes",
    [
        {"slots": 2, "rows": 2},
        {"slots": 64, "rows": 4},
        {"prefill_lengths": (1, 3)},
        {"prefill_lengths": (96,)},
        {"prefill_lengths": (96,), "prefill_shares": 5},
        {"capacity": 128},
    ],
    ids=str,
)
def test_sizes_change_no_action(actor, conversations, sizes):
    made = conversations(9)
    plain, sized = copied(made), copied(made)
    assert play(actor.sampler(**sizes), sized, turns=3, max_tokens=4) == play(
        actor.sampler(), plain, turns=3, max_tokens=4
    )


def test_a_turn_computes_only_what_is_new(actor, conversations):
    sampler, made = actor.sampler(slots=20, rows=4), conversations(12)
    length = {id(messages): len(actor.encoder.prompt_tokens(messages)) for messages in made}
    for _ in range(3):
        before = sampler.usage
        answers = sampler.act(made, max_tokens=4)
        held = {
            id(messages): len(actor.encoder.prompt_tokens(messages)) + action.tokens - 1
            for messages, (action,) in zip(made, answers, strict=True)
        }
        if before.sampled_tokens:
            assert sampler.usage.prompt_tokens - before.prompt_tokens == sum(length.values())
        for messages, (action,) in zip(made, answers, strict=True):
            messages += [Message("assistant", action.text, action=True), Message("user", "c d e f")]
            length[id(messages)] = len(actor.encoder.prompt_tokens(messages)) - held[id(messages)]


def test_prompt_cached_and_sampled_tokens_add_up(actor, conversations):
    sampler, made = actor.sampler(), conversations(6)
    total = 0
    for turn in range(3):
        total += sum(len(actor.encoder.prompt_tokens(messages)) for messages in made)
        play(sampler, made, turns=1, max_tokens=3 + turn)
    assert sampler.usage.prompt_tokens + sampler.usage.cached_tokens == total


def test_sampled_tokens_are_those_of_the_actions(actor, conversations):
    sampler = actor.sampler()
    answers = sampler.act(conversations(5), samples=3)
    assert sampler.usage.sampled_tokens == sum(action.tokens for actions in answers for action in actions)


def test_samples_share_the_reading_of_their_prompt(actor, conversations):
    sampler, (messages,) = actor.sampler(), conversations(1)
    sampler.act([messages], samples=9)
    assert sampler.usage.prompt_tokens == len(actor.encoder.prompt_tokens(messages))


def test_equal_conversations_are_read_once(actor, conversations):
    sampler, (messages,) = actor.sampler(), conversations(1)
    sampler.act([messages] * 5, seed=range(5))
    assert sampler.usage.prompt_tokens == len(actor.encoder.prompt_tokens(messages))


def test_every_sample_can_be_continued_without_reading_it_again(indifferent_actor):
    sampler = indifferent_actor.sampler()
    start = [Message("user", "a b c d e f g")]
    (actions,) = sampler.act([start], samples=6, max_tokens=5, seed=2)
    branches = [
        [*start, Message("assistant", action.text, action=True), Message("user", "k")]
        for action in {action.text: action for action in actions}.values()
    ]
    before = sampler.usage
    sampler.act(branches)
    assert len(branches) > 3
    # The last sampled token (or, after a cut, the end that the template adds), the observation and the prompt are new.
    assert sampler.usage.prompt_tokens - before.prompt_tokens <= 4 * len(branches)


def test_a_branch_from_an_earlier_turn_is_answered_as_if_it_were_new(actor, conversations):
    sampler, made = actor.sampler(), conversations(4)
    early = copied(made)
    play(sampler, made, turns=2, max_tokens=4)
    for messages in early:
        messages += [Message("assistant", "g h", action=True), Message("user", "i j")]
    assert [actions[0].text for actions in sampler.act(early, temperature=0.0, max_tokens=4)] == [
        actor.greedy(messages, 4)[0] for messages in early
    ]


def test_new_conversations_do_not_push_out_those_in_progress(actor, conversations):
    sampler = actor.sampler(slots=12, rows=4)
    live = conversations(6, seed=1)
    play(sampler, live, turns=1)
    for round_ in range(4):
        before = sampler.usage.prompt_tokens
        fresh = conversations(6, seed=50 + round_)
        sampler.act([*fresh, *live], max_tokens=2)
        new = sum(len(actor.encoder.prompt_tokens(messages)) for messages in fresh)
        if round_:
            assert sampler.usage.prompt_tokens - before <= new + len(live)


def test_an_interrupted_call_leaves_nothing_wrong_behind(actor, conversations, monkeypatch):
    sampler, made = actor.sampler(slots=16), conversations(8)
    play(sampler, made, turns=1, max_tokens=4)
    with monkeypatch.context() as patched:
        patched.setattr(sampler._table, "record", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sampler.act(conversations(14, seed=3))
    assert [actions[0].text for actions in sampler.act(made, temperature=0.0, max_tokens=4)] == [
        actor.greedy(messages, 4)[0] for messages in made
    ]


def interrupted(*_, **__):
    raise KeyboardInterrupt


def test_bfloat16_slots_survive_between_calls(bfloat16_actor, conversations):
    cached, made = bfloat16_actor.sampler(), conversations(6)
    play(cached, made, turns=2, max_tokens=4)
    for warm, cold in zip(
        cached.act(made, temperature=0.0, max_tokens=1),
        bfloat16_actor.sampler().act(made, temperature=0.0, max_tokens=1),
        strict=True,
    ):
        assert warm[0].logprob == pytest.approx(cold[0].logprob, abs=0.25)  # bfloat16 has eight bits of precision


def test_a_beginning_that_conversations_share_is_read_once(actor):
    opening = "a b c d e f g h i j k l " * 4
    made = [[Message("user", f"{opening} {first} {second}")] for first in "abcd" for second in "efgh"]
    assert {len(actor.encoder.prompt_tokens(messages)) for messages in made} == {51}
    sampler = actor.sampler(slots=16)
    answers = sampler.act(made, temperature=0.0, max_tokens=4)
    assert sampler.usage.prompt_tokens == 48 + 16 * 3
    assert sampler.usage.cached_tokens == 15 * 48
    assert [action.text for (action,) in answers] == [actor.greedy(messages, 4)[0] for messages in made]
