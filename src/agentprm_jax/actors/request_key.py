"""What a question to an actor is recognised by: the same question has the same key, on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from agentprm_jax.data.trajectory import Message


def request_key(messages: Sequence[Message], *parts: float) -> bytes:
    """Returns 16 bytes that are a fixed function of the conversation and of the numbers `parts`."""
    digest = hashlib.blake2b(" ".join(map(repr, parts)).encode(), digest_size=16)
    for message in messages:
        content = message.content.encode()
        digest.update(f"\x1e{message.role} {len(content)} ".encode() + content)
    return digest.digest()


def request_seed(messages: Sequence[Message], seed: int, sample: int) -> int:
    """Returns the 31-bit seed of sample number `sample` of a conversation under the actor's `seed`."""
    return int.from_bytes(request_key(messages, seed, sample)[:4], "little") & 0x7FFFFFFF
