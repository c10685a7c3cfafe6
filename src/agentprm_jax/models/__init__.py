"""Decoder language models and reward models: configuration, parameters, forward passes, KV cache, weights.

Names are resolved on first use, so that reading a config does not import JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentprm_jax.models.cache import KVCache, extend, fork, init_cache, reset
    from agentprm_jax.models.config import DecoderConfig, Llama3RopeScaling
    from agentprm_jax.models.forward import (
        hidden_states,
        init_language_model,
        init_reward_model,
        lm_logits,
        logical_axes,
        logits_of,
        promises,
        values_of,
    )
    from agentprm_jax.models.loading import load_pretrained
    from agentprm_jax.models.lora import merge_adapters, with_adapters
    from agentprm_jax.models.lora_config import LoraConfig
    from agentprm_jax.models.lora_files import load_adapter, save_adapter
    from agentprm_jax.models.saving import save_pretrained

__all__ = [
    "DecoderConfig",
    "KVCache",
    "Llama3RopeScaling",
    "LoraConfig",
    "extend",
    "fork",
    "hidden_states",
    "init_cache",
    "init_language_model",
    "init_reward_model",
    "lm_logits",
    "load_adapter",
    "load_pretrained",
    "logical_axes",
    "logits_of",
    "merge_adapters",
    "promises",
    "reset",
    "save_adapter",
    "save_pretrained",
    "values_of",
    "with_adapters",
]

_MODULE_OF = {
    "DecoderConfig": "config",
    "KVCache": "cache",
    "Llama3RopeScaling": "config",
    "LoraConfig": "lora_config",
    "extend": "cache",
    "fork": "cache",
    "hidden_states": "forward",
    "init_cache": "cache",
    "init_language_model": "forward",
    "init_reward_model": "forward",
    "lm_logits": "forward",
    "load_adapter": "lora_files",
    "load_pretrained": "loading",
    "logical_axes": "forward",
    "logits_of": "forward",
    "merge_adapters": "lora",
    "promises": "forward",
    "reset": "cache",
    "save_adapter": "lora_files",
    "save_pretrained": "saving",
    "values_of": "forward",
    "with_adapters": "lora",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
