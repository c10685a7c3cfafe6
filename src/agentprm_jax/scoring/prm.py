"""The process reward model as a scorer: promise and progress of every step."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32

from agentprm_jax.data.encode import ChatEncoder
from agentprm_jax.data.tokenizer_files import check_vocabulary
from agentprm_jax.data.trajectory import Message, Trajectory
from agentprm_jax.models.config import DecoderConfig
from agentprm_jax.models.forward import Params
from agentprm_jax.models.placement import Constrain, unconstrained
from agentprm_jax.scoring.base import StepScores
from agentprm_jax.scoring.config import TOKENS_PER_BATCH
from agentprm_jax.scoring.prm_files import PrmRecord, load_prm, save_prm, to_json
from agentprm_jax.scoring.readout import Tree, read_values

_TOKEN_BYTES = 4
_MOST_TOKENS_ON_BRANCHES = 128
"""Tokens of actions that are read beside each other after one conversation, where that is not longer itself."""


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
        constrain: Constrain = unconstrained,
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
            constrain: pins activations to the mesh that the parameters lie on.

        Raises:
            ValueError: the parameters have no value head, the tokenizer has more tokens than the model, or `training`
                is no JSON.
        """
        if "value_head" not in params:
            raise ValueError(
                f"A PRM needs parameters with a value head, got a language model with {', '.join(sorted(params))}."
            )
        check_vocabulary(config.vocab_size, encoder, f"PRM {name}")
        self.config = config
        self.encoder = encoder
        self.initial_value = float(initial_value)
        self.name = name
        self.method = method
        self.training = to_json(training or {})
        self.tokens_scored = 0
        self._tokens_per_batch = tokens_per_batch
        self._constrain = constrain
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
        trees = [self._tree(trajectory) for trajectory in trajectories]
        for trajectory, tree in zip(trajectories, trees, strict=True):
            self._check_length(trajectory.id, len(tree.tokens))
        values = self._values(trees)
        return [StepScores.from_promise(promise.tolist(), self.initial_value) for promise in values]

    def length(self, trajectory: Trajectory) -> int:
        """Tokens that scoring the trajectory reads: those up to the end of its last action.

        Raises:
            ValueError: it cannot be encoded.
        """
        return len(self._tree(trajectory).tokens)

    def score_conversations(self, conversations: Sequence[Sequence[Message]]) -> list[float]:
        """Promise of the last action of each conversation, in order; what follows that action has no influence.

        Conversations that differ in their last action only share the work on what precedes it.

        Raises:
            ValueError: a conversation has no action after its first message, cannot be encoded, or is longer than the
                model is meant for; gives its number.
        """
        places: dict[bytes, list[int]] = {}
        actions: list[list[int]] = []
        for index, messages in enumerate(conversations):
            before, action = self._split_conversation(index, messages)
            self._check_length(f"conversation {index}", len(before) // _TOKEN_BYTES + len(action))
            places.setdefault(before, []).append(index)
            actions.append(action)
        groups = [
            (np.frombuffer(before, np.int32).tolist(), part)
            for before, members in places.items()
            for part in _parts(members, actions, max(len(before) // _TOKEN_BYTES, _MOST_TOKENS_ON_BRANCHES))
        ]
        values = self._values(
            [Tree.of_continuations(stem, [actions[place] for place in part]) for stem, part in groups]
        )
        found = {
            place: float(value)
            for (_, part), promise in zip(groups, values, strict=True)
            for place, value in zip(part, promise, strict=True)
        }
        return [found[index] for index in range(len(conversations))]

    def _tree(self, trajectory: Trajectory) -> Tree:
        return Tree.of_trajectory(self.encoder.encode(trajectory))

    def _split_conversation(self, index: int, messages: Sequence[Message]) -> tuple[bytes, list[int]]:
        """Tokens up to the last action, as int32, and those of the action."""
        last = next((place for place in reversed(range(1, len(messages))) if messages[place].action), None)
        if last is None:
            roles = ", ".join(message.role for message in messages) or "no message"
            raise ValueError(f"Conversation {index} should have an action after its first message, got {roles}.")
        before = np.asarray(self.encoder.prompt_tokens(messages[:last]), np.int32)
        return before.tobytes(), self.encoder.action_tokens(messages[last].content)

    def _check_length(self, name: str, tokens: int) -> None:
        if tokens > self.config.max_positions:
            raise ValueError(
                f"{name} has {tokens} tokens, but PRM {self.name} is meant for at most {self.config.max_positions} "
                "(max_positions)."
            )

    def _values(self, trees: Sequence[Tree]) -> list[Float32[np.ndarray, "u"]]:
        self.tokens_scored += sum(len(tree.tokens) for tree in trees)
        if not trees:
            return []
        return read_values(self.config, self._params, trees, self._tokens_per_batch, self._constrain)


def _parts(members: Sequence[int], actions: Sequence[Sequence[int]], most: int) -> Iterator[list[int]]:
    """The members in groups whose actions have at most `most` tokens together, or of one."""
    part, tokens = [], 0
    for member in members:
        if part and tokens + len(actions[member]) > most:
            yield part
            part, tokens = [], 0
        part.append(member)
        tokens += len(actions[member])
    yield part
