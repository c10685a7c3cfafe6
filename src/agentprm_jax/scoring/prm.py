"""The process reward model as a scorer: promise and progress of every step."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32

from agentprm_jax.data.encode import ChatEncoder, EncodedTrajectory
from agentprm_jax.data.trajectory import Message, Trajectory
from agentprm_jax.models.config import DecoderConfig
from agentprm_jax.models.forward import Params
from agentprm_jax.scoring.base import StepScores
from agentprm_jax.scoring.prm_files import PrmRecord, check_vocabulary, load_prm, save_prm, to_json
from agentprm_jax.scoring.readout import TOKENS_PER_BATCH, read_values


class Prm:
    """A trained reward model (AgentPRM, arXiv 2511.08325), read at the end-of-turn token of every action.

    Attributes:
        config: shape of the decoder.
        encoder: turns trajectories into tokens.
        initial_value: expected outcome before the first action: the mean outcome of the training trajectories.
        name: name of the scorer.
        method: how it was trained.
        training: whatever else is known about the training.
        tokens_scored: tokens run through the model so far, padding not counted.
    """

    def __init__(
        self,
        config: DecoderConfig,
        params: Params,
        encoder: ChatEncoder,
        *,
        initial_value: float,
        name: str = "prm",
        method: str = "agentprm",
        training: Mapping[str, Any] | None = None,
        tokens_per_batch: int = TOKENS_PER_BATCH,
    ):
        """Puts the parameters on the device.

        Args:
            config: shape of the decoder.
            params: a reward model's parameters.
            encoder: made of the tokenizer that the model was trained with.
            initial_value: mean outcome of the training trajectories.
            name: name of the scorer.
            method: how it was trained.
            training: whatever else is worth keeping; JSON.
            tokens_per_batch: tokens of a full forward pass.

        Raises:
            ValueError: the parameters have no value head, the tokenizer has more tokens than the model, or `training`
                is no JSON.
        """
        if "value_head" not in params:
            raise ValueError(
                f"A PRM needs parameters with a value head, got a language model with {', '.join(sorted(params))}."
            )
        check_vocabulary(config, encoder, f"PRM {name}")
        self.config = config
        self.encoder = encoder
        self.initial_value = float(initial_value)
        self.name = name
        self.method = method
        self.training = to_json(training or {})
        self.tokens_scored = 0
        self._tokens_per_batch = tokens_per_batch
        self._params = jax.tree.map(jnp.asarray, params)

    @classmethod
    def load(cls, directory: str | os.PathLike[str], *, tokens_per_batch: int = TOKENS_PER_BATCH) -> "Prm":
        """Reads a PRM that `save` wrote.

        Args:
            directory: the folder.
            tokens_per_batch: tokens of a full forward pass.

        Raises:
            FileNotFoundError: the folder or a file of it is missing.
            ValueError: a file is damaged, the model is a language model, or tokenizer and model do not belong together.
        """
        config, params, encoder, record = load_prm(directory)
        check_vocabulary(config, encoder, str(directory))
        return cls(
            config,
            params,
            encoder,
            initial_value=record.initial_value,
            name=record.name,
            method=record.method,
            training=record.training,
            tokens_per_batch=tokens_per_batch,
        )

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes the model in Hugging Face's layout (one-label regression), the tokenizer and prm.json."""
        record = PrmRecord(name=self.name, method=self.method, initial_value=self.initial_value, training=self.training)
        save_prm(directory, self.config, self._params, self.encoder, record)

    def score(self, trajectories: Sequence[Trajectory]) -> list[StepScores]:
        """Promise and progress of every action of every trajectory, in order.

        Raises:
            ValueError: a trajectory cannot be encoded, or is longer than the model is meant for; names its id.
        """
        values = self._values([self.encoder.encode(trajectory).up_to_last_action() for trajectory in trajectories])
        return [StepScores.from_promise(promise.tolist(), self.initial_value) for promise in values]

    def score_conversations(self, conversations: Sequence[Sequence[Message]]) -> list[float]:
        """Promise of the last action of each conversation, in order; what follows that action has no influence.

        Raises:
            ValueError: a conversation has no action after its first message, cannot be encoded, or is longer than the
                model is meant for; gives its number.
        """
        encoded = [self._encode_conversation(index, messages) for index, messages in enumerate(conversations)]
        return [float(promise[0]) for promise in self._values(encoded)]

    def _encode_conversation(self, index: int, messages: Sequence[Message]) -> EncodedTrajectory:
        last = next((place for place in reversed(range(1, len(messages))) if messages[place].action), None)
        if last is None:
            roles = ", ".join(message.role for message in messages) or "no message"
            raise ValueError(f"Conversation {index} should have an action after its first message, got {roles}.")
        before = self.encoder.prompt_tokens(messages[:last])
        tokens = np.asarray([*before, *self.encoder.action_tokens(messages[last].content)], np.int32)
        readouts = np.asarray([len(tokens) - 1], np.int32)
        return EncodedTrajectory(tokens, readouts, np.arange(len(tokens)) >= len(before), f"conversation {index}", "")

    def _values(self, encoded: Sequence[EncodedTrajectory]) -> list[Float32[np.ndarray, "u"]]:
        if not encoded:
            return []
        for one in encoded:
            if len(one.tokens) > self.config.max_positions:
                raise ValueError(
                    f"{one.id} has {len(one.tokens)} tokens, but PRM {self.name} is meant for at most "
                    f"{self.config.max_positions} (max_positions)."
                )
        self.tokens_scored += sum(len(one.tokens) for one in encoded)
        return read_values(self.config, self._params, encoded, self._tokens_per_batch)
