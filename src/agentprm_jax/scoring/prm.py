"""The process reward model as a scorer: promise and progress of every step."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from agentprm_jax.data.encode import ChatEncoder
from agentprm_jax.data.tokenizer_files import check_vocabulary
from agentprm_jax.data.trajectory import Message, Trajectory
from agentprm_jax.models.config import DecoderConfig
from agentprm_jax.models.forward import Params
from agentprm_jax.models.loading import Shardings
from agentprm_jax.models.placement import Constrain, row_parts, unconstrained
from agentprm_jax.scoring.base import StepScores
from agentprm_jax.scoring.config import KEPT_TOKENS, TOKENS_PER_BATCH
from agentprm_jax.scoring.conversations import ConversationReader, Sizes
from agentprm_jax.scoring.prm_files import PrmRecord, load_prm, save_prm, to_json
from agentprm_jax.scoring.readout import read_values

_TOKEN_BYTES = 4


class Prm:
    """A trained reward model (AgentPRM, arXiv 2511.08325), read at the end-of-turn token of every action.

    One that does not fit on a device lies on a mesh of them, of one process or of several. Where there are several, all
    must make the same calls with the same arguments in the same order, and each gets all scores.

    Attributes:
        config: shape of the decoder.
        encoder: turns trajectories into tokens.
        initial_value: expected outcome before the first action: the mean outcome of the training trajectories.
        name: name of the scorer.
        method: how it was trained.
        training: whatever else is known about the training.
        tokens_scored: tokens run through the model so far, padding not counted.
        tokens_kept: tokens of conversations that were not, because their keys and values were kept from earlier calls.
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
        kept_tokens: int = KEPT_TOKENS,
        constrain: Constrain = unconstrained,
    ):
        """Puts the parameters on the device, unless they lie on devices already.

        Args:
            config: shape of the decoder.
            params: a reward model's parameters.
            encoder: made of the tokenizer that the model was trained with.
            initial_value: mean outcome of the training trajectories.
            name: name of the scorer.
            method: how it was trained.
            training: whatever else is worth keeping; JSON.
            tokens_per_batch: tokens of a full forward pass on all devices.
            kept_tokens: room for conversations whose keys and values are kept; memory is taken by the first call of
                `score_conversations`. A mesh shares it by key-value heads along its axis `tensor` alone.
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
        self.tokens_kept = 0
        self._tokens_per_batch = tokens_per_batch
        self._kept_tokens = kept_tokens
        self._reader: ConversationReader | None = None
        self._constrain = constrain
        self._params = jax.tree.map(jnp.asarray, params)

    @classmethod
    def load(
        cls,
        directory: str | os.PathLike[str],
        *,
        shardings: Shardings | None = None,
        constrain: Constrain = unconstrained,
        tokens_per_batch: int = TOKENS_PER_BATCH,
        kept_tokens: int = KEPT_TOKENS,
    ) -> "Prm":
        """Reads a PRM that `save` wrote, onto one device or straight into its parts on the devices of a mesh.

        With a mesh of `training.make_mesh`, shardings are `functools.partial(training.parameter_shardings, mesh)` and
        `constrain` is `training.make_constrain(mesh)`.

        Args:
            directory: the folder.
            shardings: where the parameters shall lie, as in `load_pretrained`; None is one device.
            constrain: pins activations to the mesh that the parameters lie on.
            tokens_per_batch: tokens of a full forward pass on all devices.
            kept_tokens: room for conversations whose keys and values are kept.

        Raises:
            FileNotFoundError: the folder or a file of it is missing.
            ValueError: a file is damaged, the model is a language model, tokenizer and model do not belong together, or
                the parameters cannot be cut as the shardings say.
        """
        config, params, encoder, record = load_prm(directory, shardings)
        return cls(
            config,
            params,
            encoder,
            initial_value=record.initial_value,
            name=record.name,
            method=record.method,
            training=record.training,
            tokens_per_batch=tokens_per_batch,
            kept_tokens=kept_tokens,
            constrain=constrain,
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
        known = [self.encoder.encode(trajectory).up_to_last_action() for trajectory in trajectories]
        for encoded in known:
            self._check_length(encoded.id, len(encoded.tokens))
        self.tokens_scored += sum(len(encoded.tokens) for encoded in known)
        values = read_values(self.config, self._params, known, self._tokens_per_batch, self._constrain)
        return [StepScores.from_promise(promise.tolist(), self.initial_value) for promise in values]

    def length(self, trajectory: Trajectory) -> int:
        """Tokens that scoring the trajectory reads: those up to the end of its last action.

        Raises:
            ValueError: it cannot be encoded.
        """
        return len(self.encoder.encode(trajectory).up_to_last_action().tokens)

    def score_conversations(self, conversations: Sequence[Sequence[Message]]) -> list[float]:
        """Promise of the last action of each conversation, in order; what follows that action has no influence.

        Conversations that differ in their last action only share the work on what precedes it, and what the slots hold
        from earlier calls is not computed again: a search pays for new tokens only. Slots hold as many tokens as
        `kept_tokens` says; conversations used longest ago give way, and a call with more than there are slots for is
        as right as any other, only slower.

        Raises:
            ValueError: a conversation has no action after its first message, cannot be encoded, or is longer than the
                model is meant for; gives its number.
        """
        places: dict[bytes, list[int]] = {}
        actions: list[list[int]] = []
        for index, (stem, action) in enumerate(self._split_conversations(conversations)):
            self._check_length(f"conversation {index}", len(stem) // _TOKEN_BYTES + len(action))
            places.setdefault(stem, []).append(index)
            actions.append(action)
        if not places:
            return []
        reader = self._reader_for(max(map(len, places)) // _TOKEN_BYTES)
        self._reader = None  # until all went well: after an interruption what slots hold is unknown
        read = reader.read(list(places), [[actions[index] for index in members] for members in places.values()])
        self._reader = reader
        self.tokens_scored += read.new_tokens
        self.tokens_kept += read.kept_tokens
        scores = np.empty(len(conversations), np.float32)
        scores[[index for members in places.values() for index in members]] = read.values
        return scores.tolist()

    def forget_conversations(self) -> None:
        """Frees the memory of the conversations that are kept; the next call reads from the first token."""
        self._reader = None

    def _split_conversations(self, conversations: Sequence[Sequence[Message]]) -> Iterator[tuple[bytes, list[int]]]:
        """For each conversation its tokens up to the last action, as int32, and those of the action."""
        known: dict[tuple[int, ...], tuple[Sequence[Message], bytes]] = {}
        for index, messages in enumerate(conversations):
            last = next((place for place in reversed(range(1, len(messages))) if messages[place].action), None)
            if last is None:
                roles = ", ".join(message.role for message in messages) or "no message"
                raise ValueError(f"Conversation {index} should have an action after its first message, got {roles}.")
            stem = messages[:last]
            key = tuple(map(id, stem))  # candidates of one path share their messages, which the entry keeps alive
            if key not in known:
                known[key] = stem, np.asarray(self.encoder.prompt_tokens(stem), np.int32).tobytes()
            yield known[key][1], self.encoder.action_tokens(messages[last].content)

    def _reader_for(self, tokens: int) -> ConversationReader:
        """A reader with room for conversations of so many tokens; the one at hand unless they have outgrown it."""
        if self._reader is None or self._reader.sizes.capacity < tokens:
            self._reader = None  # first, so that memory for both is never needed
            parts = row_parts(self._constrain)
            sizes = Sizes.for_conversations_of(tokens, self._kept_tokens, self._tokens_per_batch, parts)
            self._reader = ConversationReader(self.config, self._params, sizes, self._constrain)
        return self._reader

    def _check_length(self, name: str, tokens: int) -> None:
        if tokens > self.config.max_positions:
            raise ValueError(
                f"{name} has {tokens} tokens, but PRM {self.name} is meant for at most {self.config.max_positions} "
                "(max_positions)."
            )
