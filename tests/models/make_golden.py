"""Makes the recorded checkpoints and outputs of this room's parity tests with torch and transformers.

    python tests/models/make_golden.py

Each folder under tests/recorded/models holds a model as `transformers` saves it, with random weights of which none is 0
or 1, and in expected.npz the tokens that it was given, its hidden states after the embedding and after each block (the
last one after the final norm), and its logits, all float32.
"""

from __future__ import annotations

import pathlib

import numpy as np
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

FOLDER = pathlib.Path(__file__).parent.parent / "recorded" / "models"
SIZES = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
STRETCHED = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}


def models() -> dict[str, PreTrainedModel]:
    """One small random model of each family, among them all switches of the decoder."""
    torch.manual_seed(0)
    rope = {"rope_type": "default", "rope_theta": 1_000_000.0}
    small = {
        "qwen2": Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=True, rope_parameters=rope)),
        "qwen3": Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=6, tie_word_embeddings=False, rope_parameters=rope)),
        "llama": LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=False, rope_parameters=STRETCHED)),
    }
    for model in small.values():
        shake(model)
    return small


def shake(model: PreTrainedModel) -> None:
    """Adds noise to every parameter."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.eval()


def outputs(model: PreTrainedModel, tokens: np.ndarray) -> dict[str, np.ndarray]:
    """Hidden states `[layers + 1, b, t, d]` and logits `[b, t, v]`."""
    with torch.no_grad():
        result = model(torch.from_numpy(tokens).long(), output_hidden_states=True)
    return {"hidden_states": torch.stack(result.hidden_states).numpy(), "logits": result.logits.numpy()}


def main() -> None:
    """Writes all folders."""
    for name, model in models().items():
        tokens = np.random.default_rng(0).integers(0, SIZES["vocab_size"], (2, 40)).astype(np.int32)
        model.save_pretrained(FOLDER / name)
        (FOLDER / name / "generation_config.json").unlink(missing_ok=True)
        np.savez_compressed(FOLDER / name / "expected.npz", tokens=tokens, **outputs(model, tokens))


if __name__ == "__main__":
    main()
