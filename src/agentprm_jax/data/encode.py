"""Turns conversations into tokens, the same ones whole or turn by turn, and finds every action in them."""

import copy
import functools
import os
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool, Int32, Integer
from tokenizers import Tokenizer

from agentprm_jax.data.record import Message, Trajectory
from agentprm_jax.data.template import learn_template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_CACHED_TURNS = 1 << 16


class EncodedTrajectory(NamedTuple):
    """A trajectory as tokens.

    Attributes:
        tokens: int32 [t]. The whole conversation.
        readouts: int32 [u]. Position of the end-of-turn token that closes each action; the model is read there.
        action_mask: bool [t]. True on the tokens that the actor generated: content and end-of-turn of the actions,
            without the end-of-turn of an action that was cut off, which was never said.
        id: Id of the trajectory.
        task: Id of its task.
    """

    tokens: Int32[np.ndarray, " t"]
    readouts: Int32[np.ndarray, " u"]
    action_mask: Bool[np.ndarray, " t"]
    id: str
    task: str

    def up_to_last_action(self) -> "EncodedTrajectory":
        """Without what was said after the last action, which no causal model has seen when it is read there."""
        end = int(self.readouts[-1]) + 1 if len(self.readouts) else len(self.tokens)
        return self._replace(tokens=self.tokens[:end], action_mask=self.action_mask[:end])


class ChatEncoder:
    """Encodes conversations with a tokenizer and its chat template.

    Every turn is tokenized by itself, and of an assistant turn the generation prompt, the content and the end apart. So
    the tokens of a conversation are those of its prompt, then those that the actor sampled, then those of the next
    turn. Where the template separates turns with special tokens these are also the tokens of the whole text, except
    that a text which spells a special token ("<|im_end|>" in a web page) stays text and cannot end a turn.

    Attributes:
        tokenizer: The tokenizer.
        template: Its chat template, taken apart.
        generation_prompt_tokens: Tokens that open an assistant turn.
        end_of_turn_id: The token that closes an assistant turn.
        pad_id: The token to fill unused places with: the tokenizer's own, unless it has none or closes turns with it.
            Never the end-of-turn token, because what reads a model at the last token that is no padding (`transformers`
            does so) would then pass over the end of the last turn.
        vocab_size: Highest token id plus one, special tokens included; a tokenizer may leave ids out below it.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerFast", cached_turns: int = _CACHED_TURNS):
        """Takes the chat template apart.

        Args:
            tokenizer: A fast tokenizer with a chat template that writes every turn by itself.
            cached_turns: How many turns, and how many actions, are remembered with their tokens.

        Raises:
            ValueError: If it has no chat template, the template is not message-local, or an assistant turn is not
                closed by a special token.
        """
        if not tokenizer.chat_template:
            raise ValueError("The tokenizer has no chat template: set `tokenizer.chat_template`.")
        self.tokenizer = tokenizer
        self.template = learn_template(tokenizer)
        self._markup = _plain_copy(tokenizer.backend_tokenizer)
        self._literal = _plain_copy(tokenizer.backend_tokenizer)
        self._literal.encode_special_tokens = True
        added = self._markup.get_added_tokens_decoder()
        self._special_ids = frozenset(index for index, token in added.items() if token.special)
        names = sorted((added[index].content for index in self._special_ids), key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, names)) or r"(?!)")
        self._unknown_id = tokenizer.unk_token_id
        self.generation_prompt_tokens: tuple[int, ...] = tuple(self._ids(self._markup, self.template.generation_prompt))
        ending = self._ids(self._markup, self.template.turn(False, "assistant").suffix)
        if not ending or ending[0] not in self._special_ids:
            raise ValueError(
                "The tokenizer's chat template should close an assistant turn with a special token, got "
                f"{self.template.turn(False, 'assistant').suffix!r}."
            )
        self.end_of_turn_id: int = ending[0]
        pad = self._markup.token_to_id(str(tokenizer.pad_token))
        candidates = [pad, *sorted(self._special_ids), 0, 1]
        self.pad_id: int = next(one for one in candidates if one is not None and one != self.end_of_turn_id)
        self.vocab_size: int = 1 + max(self._markup.get_vocab().values())
        self._after_turn = np.asarray(ending[1:], np.int32)
        self._turn = functools.lru_cache(cached_turns)(self._encode_turn)
        self._content = functools.lru_cache(cached_turns)(self._encode_content)

    def encode(self, trajectory: Trajectory) -> EncodedTrajectory:
        """Encodes a trajectory.

        Args:
            trajectory: What to encode.

        Returns:
            Its tokens, and where its actions stand in them.

        Raises:
            ValueError: If a text has words that the tokenizer does not know; the message names them and the trajectory.
        """
        pieces: list[np.ndarray] = []
        actions: list[tuple[int, int]] = []
        position = 0
        for index, message in enumerate(trajectory.messages):
            try:
                parts = self._parts(index == 0, message)
            except ValueError as error:
                raise ValueError(f"Trajectory {trajectory.id}, message {index}: {error}") from error
            pieces.extend(parts)
            if message.action:
                begin = position + len(parts[0])
                actions.append((begin, begin + len(parts[1])))
            position += sum(map(len, parts))
        tokens = np.concatenate(pieces) if pieces else np.zeros(0, np.int32)
        mask = np.zeros(position, bool)
        for begin, end in actions:
            mask[begin:end] = True
        readouts = np.asarray([end - 1 for _, end in actions], np.int32)
        mask[readouts[np.asarray(trajectory.action_cut, bool)]] = False
        return EncodedTrajectory(tokens, readouts, mask, trajectory.id, trajectory.task)

    def prompt_tokens(self, messages: Sequence[Message]) -> list[int]:
        """Tokens of a conversation and of the opening of the next assistant turn: what an actor continues."""
        return [*self.message_tokens(messages), *self.generation_prompt_tokens]

    def message_tokens(self, messages: Sequence[Message], start: int = 0) -> list[int]:
        """Tokens of ``messages[start:]`` as they stand in the conversation ``messages``.

        Args:
            messages: The whole conversation.
            start: First message whose tokens are wanted.

        Returns:
            The tokens, without the opening of a next turn.

        Raises:
            ValueError: If a text has words that the tokenizer does not know.
        """
        parts = (self._parts(index == 0, messages[index]) for index in range(start, len(messages)))
        return [token for turn in parts for part in turn for token in part.tolist()]

    def action_tokens(self, text: str) -> list[int]:
        """The tokens that an actor samples to say ``text``: its content and the end of the turn."""
        return self._content(False, text).tolist()

    def decode_action(self, tokens: Iterable[int] | Integer[np.ndarray, " t"]) -> str:
        """The text that an actor's tokens say, up to the first end-of-turn token."""
        said = []
        for token in tokens:
            if token == self.end_of_turn_id:
                break
            said.append(int(token))
        return self._markup.decode(said, skip_special_tokens=False)

    def save_tokenizer(self, directory: str | os.PathLike[str]) -> None:
        """Writes the tokenizer in Hugging Face's layout, with the chat template and `pad_id` as its padding."""
        tokenizer = copy.deepcopy(self.tokenizer)
        tokenizer.pad_token = self._markup.id_to_token(self.pad_id)
        tokenizer.save_pretrained(directory)

    def _parts(self, first: bool, message: Message) -> tuple[np.ndarray, ...]:
        """A turn's tokens; those of an assistant turn as prefix, content with end-of-turn, and what follows."""
        if message.role != "assistant":
            return (self._turn(first, message.role, message.content),)
        return (self._prefix(first), self._content(first, message.content), self._after_turn)

    def _prefix(self, first: bool) -> np.ndarray:
        if not first:
            return np.asarray(self.generation_prompt_tokens, np.int32)
        return np.asarray(self._ids(self._markup, self.template.turn(True, "assistant").prefix), np.int32)

    def _encode_content(self, first: bool, text: str) -> np.ndarray:
        content = self.template.turn(first, "assistant").content(text)
        ids = self._literal_ids(content) if self._special.search(content) else self._ids(self._markup, content)
        return _frozen([*ids, self.end_of_turn_id])

    def _encode_turn(self, first: bool, role: str, text: str) -> np.ndarray:
        turn = self.template.turn(first, role)
        content = turn.content(text)
        if not self._special.search(content):
            return _frozen(self._ids(self._markup, turn.render(text)))
        return _frozen(
            [
                *self._ids(self._markup, turn.prefix),
                *self._literal_ids(content),
                *self._ids(self._markup, turn.suffix),
            ]
        )

    def _literal_ids(self, text: str) -> list[int]:
        """Tokens of a text that spells a special token and does not mean it."""
        ids = self._ids(self._literal, text)
        if self._special_ids.intersection(ids):
            raise ValueError(f"the tokenizer cannot tell the text {text!r} from the special token that it spells.")
        return ids

    def _ids(self, tokenizer: Tokenizer, text: str) -> list[int]:
        encoding = tokenizer.encode(text, add_special_tokens=False)
        ids = encoding.ids
        if self._unknown_id is not None and self._unknown_id in ids:
            places = [place for place, token in zip(encoding.offsets, ids, strict=True) if token == self._unknown_id]
            words = ", ".join(sorted({repr(text[begin:end]) for begin, end in places}))
            raise ValueError(f"the tokenizer does not know {words}, in the text {text!r}.")
        return ids


def _plain_copy(tokenizer: Tokenizer) -> Tokenizer:
    """A copy that neither pads nor truncates, whatever is done to the original later."""
    plain = Tokenizer.from_str(tokenizer.to_str())
    plain.no_padding()
    plain.no_truncation()
    return plain


def _frozen(tokens: list[int]) -> np.ndarray:
    """An array that may be shared by every user of a cache."""
    array = np.asarray(tokens, np.int32)
    array.flags.writeable = False
    return array
