"""GGUF files of every architecture, held against what transformers reads from them."""

from dataclasses import replace
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

from agentprm_jax.models import lm_logits, load_pretrained
from tests.data.made_tokenizers import CHATML, train_byte_pairs
from tests.models.made_gguf import add_tokenizer, tensors_of, write_gguf
from tests.models.tiny_models import BIASED, NORMED, PLAIN, language_model

# transformers does not read the heads' width from a file: it is the embedding's part, and 128 in Qwen3.
CONFIGS = {
    "llama": replace(PLAIN, head_dim=PLAIN.embed // PLAIN.heads),
    "qwen2": replace(BIASED, head_dim=BIASED.embed // BIASED.heads),
    "qwen3": replace(NORMED, head_dim=128),
}


@pytest.mark.torch
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_logits_of_a_gguf_file_are_those_of_transformers(tmp_path, config):
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = train_byte_pairs()
    config = replace(config, vocab_size=len(tokenizer), max_positions=512)
    add = partial(add_tokenizer, tokenizer=tokenizer, template=CHATML)
    write_gguf(tmp_path / "tiny.gguf", config, tensors_of(config, language_model(config)), tokenizer=add)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="tiny.gguf", dtype=torch.float32).eval()
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, (2, 20))
    with torch.no_grad():
        expected = theirs(torch.tensor(tokens)).logits.numpy()
    loaded_config, params = load_pretrained(tmp_path / "tiny.gguf")
    np.testing.assert_allclose(lm_logits(loaded_config, params, jnp.asarray(tokens)), expected, rtol=0, atol=1e-4)
