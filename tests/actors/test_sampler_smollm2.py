"""The sampler on a real model: SmolLM2-135M-Instruct answers as in `transformers`."""

import json

import pytest

from agentprm_jax.actors import NativeSampler, SamplerConfig
from agentprm_jax.data import Message, load_encoder
from agentprm_jax.models import load_pretrained
from tests.models.make_golden_smollm2 import RECORD
from tests.smollm2 import NEW_TOKENS, QUESTIONS, gguf_path


@pytest.mark.slow
def test_the_sampler_gives_the_answers_of_transformers():
    config, params = load_pretrained(gguf_path())
    encoder = load_encoder(gguf_path(), vocab_size=config.vocab_size)
    sizes = SamplerConfig(slots=20, rows=20, smallest_rows=20, capacity=128, max_tokens=NEW_TOKENS)
    sampler = NativeSampler(config, params, encoder, sizes)
    answers = sampler.act([[Message("user", question)] for question in QUESTIONS], temperature=0.0)
    for (action,), one in zip(answers, json.loads(RECORD.read_text()), strict=True):
        ended = one["answer"][-1] == encoder.end_of_turn_id
        said = one["answer"][:-1] if ended else one["answer"]
        assert (action.text, action.tokens) == (encoder.decode_action(said), len(one["answer"]))
        assert action.complete == ended
