"""What of an observation is the state of the world; needs no environment's packages, so that reports can ask."""

from __future__ import annotations

import re

_NOT_STATE = re.compile(r"^(?:goal .*? )?t\d+ (?:no )?")


def state_text(observation: str) -> str:
    """The scene in BabyAI's compact text (see `babyai_compact`), without mission, round and refusal before it.

    Texts of other forms are left as they are.
    """
    return _NOT_STATE.sub("", observation)
