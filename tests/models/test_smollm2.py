"""A real model: SmolLM2-135M-Instruct from a GGUF file answers token for token as in `transformers`."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agentprm_jax.data import Message, load_encoder
from agentprm_jax.models import extend, init_cache, load_pretrained, logits_of
from tests.models.make_golden_smollm2 import RECORD, answers
from tests.smollm2 import NEW_TOKENS, QUESTIONS, gguf_path


@pytest.fixture(scope="module")
def recorded():
    return json.loads(RECORD.read_text())


@pytest.fixture(scope="module")
def encoder():
    return load_encoder(gguf_path(), vocab_size=49_152)


@partial(jax.jit, static_argnums=0, donate_argnums=2)
def next_tokens(config, params, cache, tokens, counts):
    hidden, cache = extend(config, params["decoder"], cache, tokens, counts)
    last = jnp.take_along_axis(hidden, (counts - 1)[:, None, None], axis=1)[:, 0]
    return logits_of(config, params, last).argmax(-1), cache


def greedy(config, params, prompts):
    """Tokens `[b, NEW_TOKENS]` after prompts of different lengths."""
    lengths = np.array([len(prompt) for prompt in prompts])
    rows = np.zeros((len(prompts), lengths.max()), np.int32)
    for row, prompt in zip(rows, prompts, strict=True):
        row[: len(prompt)] = prompt
    cache = init_cache(config, len(prompts), int(lengths.max()) + NEW_TOKENS)
    tokens, cache = next_tokens(config, params, cache, rows, lengths)
    said = [tokens]
    for _ in range(NEW_TOKENS - 1):
        tokens, cache = next_tokens(config, params, cache, tokens[:, None], np.ones_like(lengths))
        said.append(tokens)
    return np.stack(said, axis=1)


@pytest.mark.slow
def test_prompts_have_the_tokens_that_transformers_gives_them(encoder, recorded):
    ours = [encoder.prompt_tokens([Message("user", question)]) for question in QUESTIONS]
    assert ours == [one["prompt"] for one in recorded]


@pytest.mark.slow
def test_greedy_answers_are_token_for_token_those_of_transformers(encoder, recorded):
    config, params = load_pretrained(gguf_path())
    said = greedy(config, params, [one["prompt"] for one in recorded])
    for row, one in zip(said.tolist(), recorded, strict=True):
        stop = row.index(encoder.end_of_turn_id) + 1 if encoder.end_of_turn_id in row else NEW_TOKENS
        assert row[:stop] == one["answer"]


@pytest.mark.slow
def test_texts_come_back_from_their_tokens(encoder):
    for text in ("It's 3 o'clock,\n\n  12345 naïve 漢字 🙂\t<tag>", " leading", "trailing \n"):
        assert encoder.decode_action(encoder.action_tokens(text)) == text


@pytest.mark.torch
def test_transformers_still_answers_as_recorded(recorded):
    assert answers() == recorded
