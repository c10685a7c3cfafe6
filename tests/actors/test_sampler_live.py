"""The sampler says what `generate` of transformers says, over several turns, side by side on torch."""

import pytest

from agentprm_jax.actors import NativeSampler, SamplerConfig, read_stop_tokens
from agentprm_jax.data import Message, load_encoder
from agentprm_jax.data.tokenizer_files import save_with_tokenizer
from agentprm_jax.models import load_pretrained, save_pretrained
from tests.actors.byte_pairs import SPECIAL, byte_pair_encoder, byte_pair_model
from tests.smollm2 import gguf_path

pytestmark = pytest.mark.torch
OBSERVATIONS = ("you see a red door", "the door is shut ö", "go to the red door")


def their_greedy(model, encoder, messages, ends, count):
    """What `generate` says after a conversation, and how many tokens."""
    import torch

    prompt = torch.tensor([encoder.prompt_tokens(messages)])
    special = [index for index, token in encoder.tokenizer.added_tokens_decoder.items() if token.special]
    with torch.inference_mode():
        said = model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=count,
            do_sample=False,
            eos_token_id=ends,
            pad_token_id=ends[0],
            suppress_tokens=[index for index in special if index not in ends],  # what our side never says
        )[0, prompt.shape[1] :].tolist()
    return encoder.decode_action(said[:-1] if said[-1] in ends else said), len(said)


def play_both(folder, encoder, starts, turns, count, **sizes):
    """Asserts that both sides say the same in every turn."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    config, params = load_pretrained(folder)
    stops = read_stop_tokens(folder)
    sampler = NativeSampler(config, params, encoder, SamplerConfig(max_tokens=count, **sizes), stop_tokens=stops)
    ends = sorted({encoder.end_of_turn_id, encoder.tokenizer.eos_token_id, *stops})
    ended = 0
    for turn in range(turns):
        answers = sampler.act(starts, temperature=0.0)
        for messages, (action,) in zip(starts, answers, strict=True):
            assert (action.text, action.tokens) == their_greedy(model, encoder, messages, ends, count)
            ended += action.complete
            observation = OBSERVATIONS[turn % len(OBSERVATIONS)]
            messages += [Message("assistant", action.text, action=True), Message("user", observation)]
    assert sampler.usage.cached_tokens > 0
    return ended


def test_a_random_model_says_the_same_greedily_over_turns(tmp_path):
    encoder = byte_pair_encoder()
    save_pretrained(tmp_path, *byte_pair_model())
    ends = encoder.tokenizer.convert_tokens_to_ids([SPECIAL[2], SPECIAL[0]])
    (tmp_path / "generation_config.json").write_text(f'{{"eos_token_id": {[*ends, encoder.action_tokens("o")[0]]}}}')
    starts = [[Message("user", "go to door " + "ab " * place)] for place in range(6)]
    play_both(tmp_path, encoder, starts, 3, 10, slots=8, rows=8, capacity=256, prefill_lengths=(32, 64))


@pytest.mark.slow
def test_smollm2_says_the_same_greedily_over_turns(tmp_path):
    config, params = load_pretrained(gguf_path())
    encoder = load_encoder(gguf_path(), vocab_size=config.vocab_size)
    save_with_tokenizer(tmp_path, config, params, encoder)
    tasks = ("Name a planet with rings.", "Write one line about the sea. 🌊")
    starts = [[Message("user", task)] for task in tasks]
    sizes = {"slots": 2, "rows": 2, "smallest_rows": 2, "capacity": 128, "prefill_lengths": (32, 64)}
    assert play_both(tmp_path, encoder, starts, 2, 12, **sizes)
