"""The same numbers as `transformers` on torch, computed side by side."""

import itertools
import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from agentprm_jax.models import lm_logits, load_pretrained, promises, save_pretrained
from agentprm_jax.models.parameters import leaves_by_path
from agentprm_jax.models.weight_names import tensor_names, weight_table
from tests.models.tiny_models import FAMILIES, Readouts, language_model, packed, quick_jit, random_tokens, reward_model

pytestmark = pytest.mark.torch
CLOSE_IN_BFLOAT16 = {"rtol": 2e-2, "atol": 2e-2}
CLOSE_IN_FLOAT16 = {"rtol": 1e-2, "atol": 1e-2}
"""float16 keeps 11 bits, and activations are rounded a dozen times a layer."""
CLOSE = {"rtol": 1e-4, "atol": 1e-4}

CROSSED = list(
    itertools.product(("Qwen2", "Qwen3", "Llama", "Mistral"), (True, False), (1, 2, 4), (False, True), (4, 6))
)
"""Family (which decides on biases and on norms of queries and keys), tied embeddings, key-value heads, Llama 3's
rope scaling, head dim: all with all."""
WITH_GRADIENTS = [
    (family, tied, kv_heads, stretched, head_dim)
    for family, tied, kv_heads, stretched, head_dim in CROSSED
    if (tied, kv_heads, stretched, head_dim) in ((True, 2, False, 4), (False, 4, False, 6), (False, 1, True, 6))
]


logits = quick_jit(lm_logits, static_argnums=0)


def model_of(family, tied, kv_heads, stretched, head_dim):
    """A random model of `transformers` whose switches are set."""
    import torch
    import transformers

    from tests.models import make_golden

    rope = make_golden.STRETCHED if stretched else {"rope_type": "default", "rope_theta": 1_000_000.0}
    sizes = make_golden.SIZES | {"num_key_value_heads": kv_heads, "tie_word_embeddings": tied, "rope_parameters": rope}
    own = {"sliding_window": None} if family == "Mistral" else {}
    torch.manual_seed(1)
    config = getattr(transformers, f"{family}Config")(**sizes, **own, head_dim=head_dim)
    model = getattr(transformers, f"{family}ForCausalLM")(config)
    make_golden.shake(model)
    return model


@pytest.mark.parametrize("switches", CROSSED, ids=str)
def test_a_checkpoint_of_transformers_gives_its_logits_here_whatever_its_switches(tmp_path, switches):
    import torch

    model = model_of(*switches)
    model.save_pretrained(tmp_path)
    config, params = load_pretrained(tmp_path)
    family, tied, kv_heads, stretched, head_dim = switches
    assert (config.qkv_bias, config.qk_norm) == (family == "Qwen2", family == "Qwen3")
    assert (config.tied_embeddings, config.kv_heads, config.head_dim) == (tied, kv_heads, head_dim)
    assert (config.rope_scaling is not None) == stretched
    tokens = random_tokens(2, 40)
    with torch.no_grad():
        theirs = model.eval()(torch.from_numpy(tokens).long()).logits.numpy()
    np.testing.assert_allclose(logits(config, params, tokens), theirs, **CLOSE)


def test_a_checkpoint_that_torch_wrote_in_float16_gives_its_logits_here(tmp_path):
    import torch

    model = model_of("Llama", False, 2, True, 6)
    model.half().save_pretrained(tmp_path)
    config, params = load_pretrained(tmp_path)
    assert (config.dtype, config.param_dtype) == ("float16", "float16")
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"float16"}
    tokens = random_tokens(2, 40)
    with torch.no_grad():
        model = type(model).from_pretrained(tmp_path, dtype=torch.float32).eval()  # half() rounds its rotary angles
        theirs = model(torch.from_numpy(tokens).long()).logits.numpy()
    widened = jax.tree.map(lambda leaf: leaf.astype("float32"), params)
    single = replace(config, dtype="float32", param_dtype="float32")
    np.testing.assert_allclose(logits(single, widened, tokens), theirs, **CLOSE)
    np.testing.assert_allclose(logits(config, params, tokens), theirs, **CLOSE_IN_FLOAT16)


@pytest.mark.parametrize("switches", WITH_GRADIENTS, ids=str)
def test_a_checkpoint_of_transformers_gives_its_gradients_here(tmp_path, switches):
    import torch

    model = model_of(*switches)
    model.save_pretrained(tmp_path)
    config, params = load_pretrained(tmp_path)
    tokens = random_tokens(3, 50)
    theirs = model(torch.from_numpy(tokens).long()).logits
    weights = np.random.default_rng(2).standard_normal(theirs.shape).astype(np.float32)
    (theirs * torch.from_numpy(weights)).mean().backward()

    @quick_jit
    def forward_and_back(params):
        ours, back = jax.vjp(lambda params: lm_logits(config, params, tokens), params)
        return ours, back(weights / weights.size)[0]

    ours, gradients = forward_and_back(params)
    np.testing.assert_allclose(ours, theirs.detach().numpy(), **CLOSE)
    named = dict(model.named_parameters())
    for weight in weight_table(config, value_head=False):
        gradient = np.asarray(leaves_by_path(gradients)[weight.path])
        for layer, name in enumerate(tensor_names(config, weight)):
            one = weight.write(gradient[layer] if weight.per_layer else gradient)
            np.testing.assert_allclose(one, named[name].grad, rtol=1e-3, atol=1e-3 * np.abs(one).max(), err_msg=name)


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
    save_pretrained(tmp_path, config, params, max_shard_bytes=3000)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
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


@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES)
def test_a_padded_batch_is_read_at_the_last_action_of_each_row_in_bfloat16_too(tmp_path, config):
    import torch
    from transformers import AutoModelForSequenceClassification

    half = replace(config, dtype="bfloat16", param_dtype="bfloat16")
    params = reward_model(half)
    save_pretrained(tmp_path, half, params, pad_token_id=0, end_of_turn_id=1)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype="auto").eval()
    assert model.dtype == torch.bfloat16
    long, short = 2 + random_tokens(2, 20, vocab_size=38)
    long[-1] = short[11] = 1
    short[12:] = 0
    rows = np.stack([long, short])
    mask = torch.from_numpy(rows != 0).long()
    with torch.no_grad():
        theirs = model(torch.from_numpy(rows).long(), attention_mask=mask).logits.float().numpy()
    segments = (rows != 0).astype(np.int32)
    positions = np.broadcast_to(np.arange(20, dtype=np.int32), rows.shape)
    ours = promises(half, params, Readouts(rows, positions, segments, np.array([[[19]], [[11]]])))
    np.testing.assert_allclose(theirs, ours[:, :, 0], **CLOSE_IN_BFLOAT16)
