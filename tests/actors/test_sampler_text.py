"""The sampler on a byte-level vocabulary: texts to stop at, halves of characters, several ends of a turn."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from agentprm_jax.actors import NativeSampler, SamplerConfig
from agentprm_jax.data import ChatEncoder, Message
from agentprm_jax.models import lm_logits
from tests.actors.byte_pairs import SPECIAL, byte_pair_encoder, byte_pair_model

ENCODER = byte_pair_encoder()
ENDS = {"pad_token": SPECIAL[0], "eos_token": SPECIAL[0]}
uncached_logits = jax.jit(lm_logits, static_argnums=0)
SIZES = {"slots": 16, "rows": 16, "capacity": 256, "max_tokens": 16, "prefill_lengths": (64,)}


def sampler(*, sharpness=20.0, stop_tokens=(), **options):
    config, params = byte_pair_model(sharpness)
    return NativeSampler(config, params, ENCODER, SamplerConfig(**{**SIZES, **options}), stop_tokens=stop_tokens)


def starts(count):
    return [[Message("user", f"go to door {place}")] for place in range(count)]


def greedy_tokens(messages, ends, count):
    """The likeliest tokens by the uncached forward pass, up to one that ends the turn."""
    config, params = byte_pair_model()
    special = [index for index, token in ENCODER.tokenizer.added_tokens_decoder.items() if token.special]
    tokens, said = list(ENCODER.prompt_tokens(messages)), []
    while len(said) < count and not (said and said[-1] in ends):
        padded = jnp.zeros((1, 96), jnp.int32).at[0, : len(tokens + said)].set(jnp.asarray(tokens + said))
        logits = np.array(uncached_logits(config, params, padded)[0, len(tokens + said) - 1])
        logits[[index for index in special if index not in ends]] = -np.inf
        said.append(int(logits.argmax()))
    return said


def test_an_id_without_a_token_is_never_said():
    described = json.loads(ENCODER.tokenizer.backend_tokenizer.to_str())
    described["model"]["vocab"]["zz"] = ENCODER.vocab_size + 1
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(described)), **ENDS)
    tokenizer.chat_template = ENCODER.tokenizer.chat_template
    encoder, (config, params) = ChatEncoder(tokenizer), byte_pair_model(0.0)
    config = replace(config, vocab_size=encoder.vocab_size + 1)
    padding = ((0, config.vocab_size - ENCODER.vocab_size), (0, 0))
    decoder = params["decoder"] | {"embedding": jnp.pad(params["decoder"]["embedding"], padding)}
    sampler = NativeSampler(config, params | {"decoder": decoder}, encoder, SamplerConfig(**SIZES))
    tokens = ENCODER.vocab_size - 1 + 1  # without the one that opens a turn, and with zz; all are equally likely
    for (action,) in sampler.act(starts(4)):
        assert action.logprob == pytest.approx(-action.tokens * np.log(tokens), rel=1e-5)


def test_an_action_ends_where_a_text_to_stop_at_is_complete_and_is_cut_before_it():
    made = starts(12)
    plain = [actions[0].text for actions in sampler(sharpness=0.0).act(made, seed=3)]
    stops = tuple({text[2:5] for text in plain if len(text) > 6 and "\ufffd" not in text[:6]})
    assert len(stops) > 2
    for text, (action,) in zip(plain, sampler(sharpness=0.0, stop=stops).act(made, seed=3), strict=True):
        places = [text.find(stop) for stop in stops if stop in text]
        if not places:
            assert action.text == text
            continue
        assert action.complete
        assert text.startswith(action.text)
        assert any(text[len(action.text) :].startswith(stop) for stop in stops)
        assert not any(stop in action.text for stop in stops)


def test_sampled_bytes_that_are_no_text_are_answered_as_if_the_conversation_were_new():
    used, made = sampler(sharpness=0.0), starts(5)
    broken = 0
    for turn in range(3):
        for messages, (action,) in zip(made, used.act(made, seed=turn), strict=True):
            broken += "\ufffd" in action.text
            messages += [Message("assistant", action.text, action=True), Message("user", "a door ö")]
    assert broken > 5, "the law needs tokens that are halves of characters"
    fresh = sampler(sharpness=0.0)
    warm, cold = (one.act(made, seed=9) for one in (used, fresh))
    assert [actions[0].text for actions in warm] == [actions[0].text for actions in cold]
    for (one,), (other,) in zip(warm, cold, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-3)


def test_after_a_cut_the_next_turn_is_answered_as_if_it_were_new():
    used, made = sampler(stop=("o", "e", "a", " ")), starts(5)
    for turn in range(2):
        for messages, (action,) in zip(made, used.act(made, seed=turn), strict=True):
            messages += [Message("assistant", action.text, action=True), Message("user", "a door")]
    before = used.usage.cached_tokens
    answers = used.act(made, temperature=0.0)
    assert used.usage.cached_tokens > before
    fresh = sampler(stop=("o", "e", "a", " "))
    assert [actions[0].text for actions in answers] == [actions[0].text for actions in fresh.act(made, temperature=0.0)]


def test_any_token_that_ends_text_ends_an_action_and_is_no_part_of_it():
    end, other = ENCODER.end_of_turn_id, ENCODER.tokenizer.eos_token_id
    extra = ENCODER.action_tokens("o")[0]
    assert end != other
    one = sampler(sharpness=0.0, stop_tokens=[extra])
    actions = [action for actions in one.act(starts(4), samples=60, seed=1) for action in actions]
    assert any(action.complete for action in actions)
    for action in actions:
        assert "<|" not in action.text
        assert action.complete or action.tokens == SIZES["max_tokens"]
    made = starts(4)
    answers = sampler(stop_tokens=[extra]).act(made, temperature=0.0)
    for messages, (action,) in zip(made, answers, strict=True):
        said = greedy_tokens(messages, {end, other, extra}, SIZES["max_tokens"])
        complete = said[-1] in {end, other, extra}
        assert action.tokens == len(said)
        assert action.complete == complete
        assert action.text == ENCODER.decode_action(said[:-1] if complete else said)


def test_an_action_has_its_fewest_tokens_before_a_token_ends_it():
    one = sampler(sharpness=0.0, min_tokens=9, stop_tokens=range(200))
    actions = [action for actions in one.act(starts(4), samples=20, seed=1) for action in actions]
    assert min(action.tokens for action in actions) == 10
    assert sum(action.complete for action in actions) > 10


def test_only_the_likeliest_tokens_are_said():
    made = starts(5)
    greedy = sampler().act(made, temperature=0.0)
    for options in ({"top_k": 1}, {"top_p": 1e-4}):
        assert [a[0].text for a in sampler(**options).act(made, seed=4)] == [a[0].text for a in greedy]
