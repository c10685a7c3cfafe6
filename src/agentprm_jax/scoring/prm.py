"""A trained process reward model: loads from a folder, values every step of a trajectory in one forward pass."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Array, Float

from agentprm_jax.data.batch import Batch, Example
from agentprm_jax.data.encode import ChatEncoder
from agentprm_jax.data.packing import PackedRows, pack
from agentprm_jax.data.trajectory import Message, Trajectory
from agentprm_jax.models.config import DecoderConfig
from agentprm_jax.models.forward import Params, promises
from agentprm_jax.models.hugging_face import load_pretrained, save_pretrained
from agentprm_jax.scoring.base import StepScores

DESCRIPTION = "prm.json"
_ROW_LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
_ROW_COUNTS = (1, 4, 16)
_TOKENS_A_CALL = 8192
_FEWEST_STEPS, _FEWEST_SEGMENTS = 8, 8


class Prm:
    """Scores trajectories by promise and progress.

    Rows come in a closed set of shapes, so that a long run compiles a handful of programs.

    Attributes:
        config: shape of the decoder.
        encoder: turns conversations into tokens.
        initial_value: V(s_0), from which the first step's progress is counted: the mean outcome of the training data.
        name: under which scores are recorded.
        tokens_scored: tokens read so far, padding not counted.
    """

    def __init__(self, config: DecoderConfig, params: Params, encoder: ChatEncoder, *, initial_value: float, name: str):
        """Takes a model as it is in memory.

        Raises:
            ValueError: the parameters have no value head, or the tokenizer has more tokens than the model.
        """
        if "value_head" not in params:
            raise ValueError("These parameters have no value head: they are a language model, not a reward model.")
        if encoder.vocab_size > config.vocab_size:
            raise ValueError(
                f"The tokenizer has {encoder.vocab_size} tokens, but the model embeds only {config.vocab_size}: they do not "
                "belong together."
            )
        self.config, self.encoder, self.initial_value, self.name = config, encoder, initial_value, name
        self.tokens_scored = 0
        self._params = params

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Prm:
        """Loads what `save` wrote.

        Raises:
            FileNotFoundError: there is no such folder, or it lacks a part of a PRM; the message names it.
            ValueError: the folder holds a model without a value head.
        """
        from transformers import AutoTokenizer

        folder = Path(path)
        if not folder.is_dir():
            raise FileNotFoundError(f"There is no PRM in {folder}: the folder does not exist.")
        config, params = load_pretrained(folder)
        if not (folder / DESCRIPTION).exists():
            raise FileNotFoundError(
                f"{folder} holds a model but no {DESCRIPTION}, so it is no PRM that train_prm.py or Prm.save has written."
            )
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        encoder = ChatEncoder(AutoTokenizer.from_pretrained(folder))
        return cls(config, params, encoder, initial_value=description["initial_value"], name=description["name"])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes model, tokenizer and prm.json into a folder; other servers load it as a one-label classifier."""
        folder = Path(path)
        save_pretrained(folder, self.config, self._params)
        self.encoder.tokenizer.save_pretrained(folder)
        text = json.dumps({"name": self.name, "initial_value": self.initial_value}, indent=1)
        (folder / DESCRIPTION).write_text(text + "\n", encoding="utf-8")

    def score(self, trajectories: Sequence[Trajectory]) -> list[StepScores]:
        """Promise and progress of every step of each trajectory, in order.

        Raises:
            ValueError: a trajectory is longer than the model's positions; names it.
        """
        rows = self._promises([Example(self.encoder.encode(t), 0.0, 0.0, (0.0,) * len(t.rewards)) for t in trajectories])
        return [self._scores(row) for row in rows]

    def score_conversations(self, conversations: Sequence[Sequence[Message]]) -> list[float]:
        """Promise of the last action of each conversation, in order."""
        examples = [self._conversation(index, messages) for index, messages in enumerate(conversations)]
        return [row[-1] for row in self._promises(examples)]

    def _conversation(self, index: int, messages: Sequence[Message]) -> Example:
        actions = sum(message.action for message in messages)
        if not actions:
            raise ValueError(f"Conversation {index} has no action, so there is nothing to score.")
        record = Trajectory(
            id=str(index), env="", task="", split="", messages=tuple(messages), rewards=(0.0,) * actions, ended="truncated"
        )
        encoded = self.encoder.encode(record)
        return Example(encoded._replace(readouts=encoded.readouts[-1:]), 0.0, 0.0, (0.0,))

    def _scores(self, promise: list[float]) -> StepScores:
        before = [self.initial_value, *promise[:-1]]
        return StepScores(tuple(promise), tuple(now - then for now, then in zip(promise, before, strict=True)))

    def _promises(self, examples: Sequence[Example]) -> list[list[float]]:
        """One list of promises for each example."""
        results: list[list[float]] = [[] for _ in examples]
        for length, places in self._by_length(examples).items():
            rows = _packed([examples[place] for place in places], length)
            for members, values in self._rows(rows):
                for segment, member in enumerate(members):
                    steps = len(rows.examples[member].encoded.readouts)
                    results[places[member]] = values[segment, :steps].tolist()
        return results

    def _by_length(self, examples: Sequence[Example]) -> dict[int, list[int]]:
        """Places of the examples by the length of the row that they go into."""
        groups: dict[int, list[int]] = {}
        longest = self.config.max_positions
        for place, example in enumerate(examples):
            count = len(example.encoded.tokens)
            if count > longest:
                raise ValueError(
                    f"Trajectory {example.encoded.id} has {count} tokens, but the model is meant for at most {longest}."
                )
            self.tokens_scored += count
            length = next((choice for choice in _ROW_LENGTHS if choice >= 2 * count), _ROW_LENGTHS[-1])
            groups.setdefault(max(length, count), []).append(place)
        return groups

    def _rows(self, rows: PackedRows):
        """Members and promises `[m, u]` of each row; calls are dispatched before the first result is fetched."""
        waiting = []
        most = max(1, _TOKENS_A_CALL // rows.length)
        for start in range(0, len(rows), most):
            chosen = list(range(start, min(start + most, len(rows))))
            padded = next((count for count in (*_ROW_COUNTS, most) if len(chosen) <= count <= most), most)
            batch = rows.batch([*chosen, *[-1] * (padded - len(chosen))])
            waiting.append((chosen, _promises(self.config, self._params, batch)))
        for chosen, values in waiting:
            for row, scores in zip(chosen, np.asarray(values), strict=False):
                yield rows.members[row], scores


def _packed(examples: Sequence[Example], length: int) -> PackedRows:
    """Rows with room for a power of two of segments and steps, so that few shapes occur."""
    steps = _power_of_two(max(len(example.encoded.readouts) for example in examples), _FEWEST_STEPS)
    rows = pack(examples, length=length, max_segments=max(_FEWEST_SEGMENTS, length // 16), max_steps=steps)
    return rows


def _power_of_two(number: int, fewest: int) -> int:
    return max(fewest, 1 << (number - 1).bit_length())


@functools.partial(jax.jit, static_argnums=0)
def _promises(config: DecoderConfig, params: Params, batch: Batch) -> Float[Array, "b m u"]:
    return promises(config, params, batch)
