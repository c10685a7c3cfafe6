import numpy as np
import pytest

from agentprm_jax.actors import NativeSampler, SamplerConfig
from agentprm_jax.actors.generation import sample_actions
from agentprm_jax.data import ChatEncoder, Message, word_tokenizer


def texts(answers):
    return [[action.text for action in actions] for actions in answers]


def test_temperature_zero_takes_the_argmax_of_the_uncached_logits(actor, conversations):
    made = conversations(9)
    answers = actor.sampler().act(made, temperature=0.0, max_tokens=6)
    assert [(action.text, action.tokens) for (action,) in answers] == [actor.greedy(messages, 6) for messages in made]


def test_actions_do_not_depend_on_how_conversations_are_batched(actor, conversations):
    made = conversations(23)
    seeds = list(range(100, 123))
    together = texts(actor.sampler().act(made, samples=2, seed=seeds, max_tokens=5))
    cramped = actor.sampler(slots=5, rows=3)
    backwards = texts(cramped.act(made[::-1], samples=2, seed=seeds[::-1], max_tokens=5))[::-1]
    lonely = actor.sampler(slots=1, rows=1)
    alone = [
        texts(lonely.act([messages], samples=2, seed=seed, max_tokens=5))[0]
        for messages, seed in zip(made, seeds, strict=True)
    ]
    assert together == backwards == alone


def test_actions_do_not_depend_on_what_was_asked_before(actor, conversations):
    made = conversations(10)
    fresh = texts(actor.sampler().act(made, seed=4))
    used = actor.sampler(slots=16)
    for seed in range(3):
        used.act(conversations(7, seed=seed), samples=2, seed=9)
    assert texts(used.act(made, seed=4)) == fresh


def test_an_action_knows_the_length_of_its_prompt_however_much_of_it_was_cached(actor, conversations):
    made, sampler = conversations(9), actor.sampler()
    for _ in range(2):
        counts = [[action.prompt_tokens for action in own] for own in sampler.act(made, samples=2)]
        assert counts == [[len(actor.encoder.prompt_tokens(messages))] * 2 for messages in made]
    assert sampler.usage.cached_tokens > 0


def test_a_seed_repeats_and_another_seed_differs(actor, conversations):
    made = conversations(8)
    sampler = actor.sampler()
    first = sampler.act(made, seed=1)
    assert texts(sampler.act(made, seed=1)) == texts(first)
    assert texts(sampler.act(made, seed=2)) != texts(first)


def test_seeds_that_differ_above_32_bits_differ(indifferent_actor, conversations):
    sampler, made = indifferent_actor.sampler(), conversations(6)
    assert texts(sampler.act(made, seed=7)) != texts(sampler.act(made, seed=7 + (1 << 32)))


def test_one_seed_for_all_is_that_seed_for_each(actor, conversations):
    sampler, made = actor.sampler(), conversations(6)
    assert texts(sampler.act(made, seed=5)) == texts(sampler.act(made, seed=[5] * 6))


def test_asking_for_more_samples_keeps_the_first_ones(actor, conversations):
    sampler, made = actor.sampler(), conversations(4)
    few, many = texts(sampler.act(made, samples=2, seed=3)), texts(sampler.act(made, samples=7, seed=3))
    assert [actions[:2] for actions in many] == few


def test_samples_of_one_conversation_are_independent(indifferent_actor, conversations):
    (actions,) = indifferent_actor.sampler().act(conversations(1), samples=40, max_tokens=4)
    assert len({action.text for action in actions}) > 30


def test_conversations_under_one_seed_do_not_share_their_noise(indifferent_actor):
    made = [[Message("user", f"{first} {second}")] for first in "abcdef" for second in "ghijkl"]
    answers = indifferent_actor.sampler().act(made, seed=0, max_tokens=4)
    assert len({action.text for (action,) in answers}) > 25


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_frequencies_match_the_softmax(actor, conversations, temperature):
    draws, (messages,) = 3000, conversations(1, seed=2)
    (actions,) = actor.sampler(rows=32).act([messages], samples=draws, temperature=temperature, seed=11, max_tokens=1)
    logits = actor.next_logits(actor.encoder.prompt_tokens(messages)) / temperature
    expected = np.exp(logits - logits.max())
    expected *= draws / expected.sum()
    said = [actor.encoder.end_of_turn_id if action.complete else action.text for action in actions]
    tokens = [token if isinstance(token, int) else actor.encoder.action_tokens(token)[0] for token in said]
    counted = np.bincount(tokens, minlength=len(expected))
    common = expected >= 5
    assert common.sum() > 3, "the law needs a distribution that is not nearly certain"
    statistic = np.sum((counted - expected)[common] ** 2 / expected[common])
    assert statistic < 2.5 * common.sum() + 10  # far above the 99.9th percentile for as many degrees of freedom
    assert counted[expected == 0].sum() == 0


def test_logprob_is_the_sum_under_temperature_one_whatever_the_temperature(actor, conversations):
    made = conversations(5)
    answers = actor.sampler().act(made, temperature=2.0, seed=8, max_tokens=5)
    for messages, (action,) in zip(made, answers, strict=True):
        tokens, total = list(actor.encoder.prompt_tokens(messages)), 0.0
        for token in actor.encoder.action_tokens(action.text)[: action.tokens]:
            logits = actor.next_logits(tokens)
            total += logits[token] - np.logaddexp.reduce(logits)
            tokens.append(token)
        assert action.logprob == pytest.approx(total, abs=1e-4)


def test_an_action_ends_at_the_end_of_turn_or_is_marked_as_cut_off(indifferent_actor, conversations):
    sampler = indifferent_actor.sampler()
    actions = [action for group in sampler.act(conversations(8), samples=20, max_tokens=6) for action in group]
    for action in actions:
        words = len(action.text.split())
        assert action.tokens == words + action.complete
        assert action.complete or action.tokens == 6
        assert "<end>" not in action.text
    assert {action.complete for action in actions} == {True, False}


def test_special_tokens_are_never_said(indifferent_actor, conversations):
    (actions,) = indifferent_actor.sampler().act(conversations(1), samples=200, seed=1)
    assert not {"<pad>", "<unk>"} & {word for action in actions for word in action.text.split()}


def test_every_action_can_be_put_back_into_the_conversation(indifferent_actor, conversations):
    sampler, made = indifferent_actor.sampler(), conversations(10)
    for turn in range(3):
        for messages, (action,) in zip(made, sampler.act(made, seed=turn, max_tokens=4), strict=True):
            messages += [Message("assistant", action.text, action=True), Message("user", "a b")]
    assert all(len(actions) == 1 for actions in sampler.act(made))


def test_few_shapes_are_compiled_whatever_the_number_of_conversations(actor, conversations):
    sizes = {"slots": 40, "rows": 40, "capacity": 90}
    sampler = actor.sampler(**sizes)
    before = sample_actions._cache_size()
    for count in (1, 2, 5, 9, 15, 17, 30, 40, 41, 60):
        sampler.act(conversations(count, seed=count), max_tokens=2)
    config = SamplerConfig(**sizes)
    assert sample_actions._cache_size() - before <= len(config.row_counts) * len(config.windows)


def test_no_conversations_give_no_actions(actor):
    assert actor.sampler().act([]) == []


def test_a_conversation_that_fits_into_no_slot_is_refused_with_its_number_and_size(actor, conversations):
    long = [Message("user", "a " * 95)]
    with pytest.raises(ValueError, match=r"Conversation 2 has 96 tokens.*capacity, now 96"):
        actor.sampler().act([*conversations(2), long])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"samples": 0}, "samples should be at least 1, got 0"),
        ({"temperature": -0.1}, "temperature should be finite and at least 0, got -0.1"),
        ({"temperature": float("nan")}, "temperature should be finite"),
        ({"max_tokens": 9}, r"max_tokens should be in \[1, 8\] .*got 9"),
        ({"seed": [1]}, "one for each of 2 conversations, got 1"),
        ({"seed": -1}, r"A seed should be in \[0, 2\*\*64\), got -1"),
    ],
)
def test_a_number_out_of_range_is_refused(actor, conversations, arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        actor.sampler().act(conversations(2), **{"max_tokens": 4, **arguments})


def test_a_tokenizer_larger_than_the_model_is_refused(actor):
    larger = ChatEncoder(word_tokenizer([*"abcdefghijkl", "more"]))
    with pytest.raises(ValueError, match=r"tokenizer has 17 tokens, but the model embeds only 16"):
        NativeSampler(actor.config, actor.params, larger, SamplerConfig(slots=4, rows=4, capacity=64))


def test_slots_longer_than_the_model_is_meant_for_are_refused(actor):
    with pytest.raises(ValueError, match=r"at most the model's max_positions=128, got 129"):
        actor.sampler(capacity=129)
