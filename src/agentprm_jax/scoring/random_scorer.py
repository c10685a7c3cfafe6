"""Random scores: the control that shows what a search gains without any value function."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from agentprm_jax.data.trajectory import Message


class RandomScorer:
    """Uniform scores in [0, 1) that are a function of the seed and the conversation."""

    def __init__(self, seed: int):
        """Remembers the seed."""
        self.seed = seed

    def score_conversations(self, conversations: Sequence[Sequence[Message]]) -> list[float]:
        """One score for each conversation; equal conversations get equal scores."""
        return [self._score(messages) for messages in conversations]

    def _score(self, messages: Sequence[Message]) -> float:
        digest = hashlib.blake2b(str(self.seed).encode(), digest_size=8)
        for message in messages:
            digest.update(f"\x1e{message.role}\x1f{message.content}".encode())
        return int.from_bytes(digest.digest(), "little") / 2**64
