"""The same numbers as `transformers` on torch, computed side by side."""

import json

import jax
import numpy as np
import pytest

from agentprm_jax.models import lm_logits, load_pretrained, promises, save_pretrained
from tests.models.tiny_models import FAMILIES, Readouts, language_model, packed, random_tokens, reward_model, run

pytestmark = pytest.mark.torch
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama"])
def test_a_checkpoint_of_transformers_gives_its_numbers_here(tmp_path, family):
    from tests.models import make_golden

    model = make_golden.models()[family]
    model.save_pretrained(tmp_path)
    config, params = load_pretrained(tmp_path)
    tokens = random_tokens(3, 50)
    theirs = make_golden.outputs(model, tokens)
    np.testing.assert_allclose(lm_logits(config, params, tokens), theirs["logits"], **CLOSE)
    np.testing.assert_allclose(run(config, params["decoder"], tokens), theirs["hidden_states"][-1], **CLOSE)


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama"])
def test_shards_written_by_transformers_are_loaded(tmp_path, family):
    from tests.models import make_golden

    model = make_golden.models()[family]
    model.save_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "shards", max_shard_size="10KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    _, whole = load_pretrained(tmp_path / "whole")
    jax.tree.map(np.testing.assert_array_equal, load_pretrained(tmp_path / "shards")[1], whole)


@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES)
def test_an_exported_language_model_gives_its_logits_in_transformers(tmp_path, config):
    import torch
    from transformers import AutoModelForCausalLM

    params = language_model(config)
    save_pretrained(tmp_path, config, params)
    model, notes = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(notes[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    tokens = random_tokens(2, 40)
    with torch.no_grad():
        theirs = model.eval()(torch.from_numpy(tokens).long()).logits.numpy()
    np.testing.assert_allclose(theirs, lm_logits(config, params, tokens), **CLOSE)


@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES)
def test_an_exported_reward_model_gives_the_promise_of_the_last_action_as_its_one_label(tmp_path, config):
    import torch
    from transformers import AutoModelForSequenceClassification

    params = reward_model(config)
    save_pretrained(tmp_path, config, params)
    model, notes = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(notes[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert json.loads((tmp_path / "config.json").read_text())["problem_type"] == model.config.problem_type
    assert model.config.num_labels == 1
    sequence, readouts = random_tokens(30), [9, 29]
    *row, _ = packed([sequence], 30)
    ours = promises(config, params, Readouts(*row, np.array([[readouts]])))
    for step, column in enumerate(readouts):  # transformers reads the last token of what it is given
        with torch.no_grad():
            theirs = model.eval()(torch.from_numpy(sequence[None, : column + 1]).long()).logits
        np.testing.assert_allclose(theirs.numpy(), ours[:, 0, step : step + 1], **CLOSE)
