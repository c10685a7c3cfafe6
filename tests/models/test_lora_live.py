"""The same numbers as `peft` on torch, in both directions."""

import numpy as np
import pytest

from agentprm_jax.models import (
    LoraConfig,
    lm_logits,
    load_adapter,
    load_pretrained,
    merge_adapters,
    promises,
    save_adapter,
    save_pretrained,
    with_adapters,
)
from tests.models.test_lora import trained
from tests.models.tiny_models import FAMILIES, Readouts, language_model, packed, random_tokens, reward_model

pytestmark = pytest.mark.torch
CLOSE = {"rtol": 1e-4, "atol": 1e-4}
LORAS = [
    LoraConfig(rank=3, alpha=6.0),
    LoraConfig(rank=4, alpha=3.0, targets=("*/query", "*/down"), rank_stabilized=True),
]


def theirs(model, tokens):
    import torch

    with torch.no_grad():
        return model.eval()(torch.from_numpy(tokens).long()).logits.numpy()


def their_model(folder, *, classifier):
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    if not classifier:
        return AutoModelForCausalLM.from_pretrained(folder)
    return AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, pad_token_id=0)


def promise_of_last(config, params, tokens):
    *row, _ = packed([tokens[0]], tokens.shape[1])
    return promises(config, params, Readouts(*row, np.array([[[tokens.shape[1] - 1]]])))[:, 0]


@pytest.mark.parametrize("lora", LORAS)
@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES)
def test_peft_computes_our_logits_from_a_saved_adapter_and_from_the_merged_model(tmp_path, config, lora):
    from peft import PeftModel

    base, tokens = language_model(config), random_tokens(2, 20)
    adapters = trained(lora, base)
    save_pretrained(tmp_path / "base", config, base)
    save_adapter(tmp_path / "adapter", config, lora, adapters, base=tmp_path / "base")
    save_pretrained(tmp_path / "model", config, merge_adapters(lora, base, adapters))
    ours = lm_logits(config, with_adapters(lora, base, adapters), tokens)
    model = PeftModel.from_pretrained(their_model(tmp_path / "base", classifier=False), tmp_path / "adapter")
    np.testing.assert_allclose(theirs(model, tokens), ours, **CLOSE)
    np.testing.assert_allclose(theirs(their_model(tmp_path / "model", classifier=False), tokens), ours, **CLOSE)
    assert np.abs(ours - lm_logits(config, base, tokens)).max() > 0.1


@pytest.mark.parametrize("lora", LORAS)
def test_peft_computes_our_promises_from_a_saved_adapter_over_the_language_model_and_from_the_merged_one(
    tmp_path, lora
):
    from peft import PeftModel

    config = FAMILIES["biased"]
    base, tokens = language_model(config), random_tokens(1, 20)
    adapters = trained(lora, reward_model(config))
    save_pretrained(tmp_path / "base", config, base)
    save_adapter(tmp_path / "adapter", config, lora, adapters, base=tmp_path / "base")
    save_pretrained(tmp_path / "model", config, merge_adapters(lora, base, adapters))
    ours = promise_of_last(config, with_adapters(lora, base, adapters), tokens)
    model = PeftModel.from_pretrained(their_model(tmp_path / "base", classifier=True), tmp_path / "adapter")
    np.testing.assert_allclose(theirs(model, tokens), ours, **CLOSE)
    np.testing.assert_allclose(theirs(their_model(tmp_path / "model", classifier=True), tokens), ours, **CLOSE)


@pytest.mark.parametrize("task", ["CAUSAL_LM", "SEQ_CLS"])
def test_an_adapter_that_peft_saved_gives_its_numbers_here(tmp_path, task):
    import torch
    from peft import LoraConfig as TheirConfig
    from peft import get_peft_model

    config = FAMILIES["biased"]
    save_pretrained(tmp_path / "base", config, language_model(config))
    base = their_model(tmp_path / "base", classifier=task == "SEQ_CLS")
    modules = ["score"] if task == "SEQ_CLS" else None
    settings = TheirConfig(
        task_type=task, r=4, lora_alpha=9, target_modules=["k_proj", "o_proj", "up_proj"], modules_to_save=modules
    )
    model = get_peft_model(base, settings)
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(tmp_path / "adapter")
    config, params = load_pretrained(tmp_path / "base")
    lora, adapters = load_adapter(tmp_path / "adapter", config)
    tokens, read = random_tokens(1, 20), lm_logits if task == "CAUSAL_LM" else promise_of_last
    np.testing.assert_allclose(
        read(config, with_adapters(lora, params, adapters), tokens), theirs(model, tokens), **CLOSE
    )
