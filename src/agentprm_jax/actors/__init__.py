"""Actors: the protocol, the native sampler, remote servers, and scripted experts.

Names are resolved on first use, so that configs and experts cost no import of JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentprm_jax.actors.babyai_expert import BabyAIExpert
    from agentprm_jax.actors.base import Action, Actor, ActorRefused, ActorUnavailable, ConversationTooLong, Usage
    from agentprm_jax.actors.config import RemoteConfig, SamplerConfig
    from agentprm_jax.actors.remote import RemoteActor
    from agentprm_jax.actors.sampler import NativeSampler
    from agentprm_jax.actors.stops import read_stop_tokens
    from agentprm_jax.actors.textcraft_expert import TextCraftExpert

__all__ = [
    "Action",
    "Actor",
    "ActorRefused",
    "ActorUnavailable",
    "BabyAIExpert",
    "ConversationTooLong",
    "NativeSampler",
    "RemoteActor",
    "RemoteConfig",
    "SamplerConfig",
    "TextCraftExpert",
    "Usage",
    "read_stop_tokens",
]

_MODULE_OF = {
    "Action": "base",
    "Actor": "base",
    "ActorRefused": "base",
    "ActorUnavailable": "base",
    "BabyAIExpert": "babyai_expert",
    "ConversationTooLong": "base",
    "NativeSampler": "sampler",
    "RemoteActor": "remote",
    "RemoteConfig": "config",
    "SamplerConfig": "config",
    "TextCraftExpert": "textcraft_expert",
    "Usage": "base",
    "read_stop_tokens": "stops",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
