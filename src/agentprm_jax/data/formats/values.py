"""JSON values: in words for error messages, and equal or not."""

import json
from typing import Any


def described(value: Any) -> str:
    """A JSON value in a few words, for error messages."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def same_json(one: Any, other: Any) -> bool:
    """Equality as JSON, where true is not 1, 1 is not 1.0 and -0.0 is not 0.0."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
