"""Where an action ends: tokens that end a turn, and texts to stop at, found in sampled tokens byte by byte."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int
from tokenizers import Tokenizer, pre_tokenizers

from agentprm_jax.data.encode import ChatEncoder
from agentprm_jax.data.tokenizer_files import GENERATION_CONFIG, named_tokens

START = 0
"""State of a row that has said nothing."""
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def read_stop_tokens(path: str | os.PathLike[str]) -> tuple[int, ...]:
    """The tokens at which the authors of a model end its generation, beside the end of the turn; () where none say.

    Args:
        path: a model folder, in which `generation_config.json` may name several, as that of Llama 3 does; or a file.

    Raises:
        ValueError: the file is damaged, or the field is neither a token nor a list of tokens.
    """
    return tuple(named_tokens(Path(path) / GENERATION_CONFIG, "eos_token_id"))


def ending_tokens(encoder: ChatEncoder, vocab_size: int, more: Sequence[int] = ()) -> Bool[np.ndarray, "v"]:
    """Which tokens end an action: the template's end of turn, the tokenizer's end of text, and `more`.

    Raises:
        ValueError: one of `more` is not a token of the model.
    """
    for token in more:
        if not 0 <= token < vocab_size:
            raise ValueError(f"A stop token should be in [0, {vocab_size}), the model's vocabulary, got {token}.")
    ends = np.zeros(vocab_size, bool)
    ends[[encoder.end_of_turn_id, *more]] = True
    if encoder.tokenizer.eos_token_id is not None:
        ends[encoder.tokenizer.eos_token_id] = True
    return ends


def cut_at_stop(text: str, stops: Sequence[str]) -> str:
    """The text up to the first place where one of the texts to stop at begins."""
    return text[: min((text.find(stop) for stop in stops if stop in text), default=len(text))]


def stop_table(encoder: ChatEncoder, stops: Sequence[str], vocab_size: int) -> Int[np.ndarray, "states v"]:
    """An automaton over tokens (Aho and Corasick, 1975) that finds texts to stop at also across tokens.

    A row's state is how much of such a text its bytes end with. The first state is `START`; the last means that a text
    is complete, and is never left. Special tokens say nothing and leave the state as it is.

    Raises:
        ValueError: a text to stop at is empty.
    """
    if "" in stops:
        raise ValueError("A text to stop at should not be empty.")
    first, later = token_bytes(encoder)
    wanted = [stop.encode() for stop in stops]
    states = [b"", *sorted({stop[:size] for stop in wanted for size in range(len(stop))} - {b""})]
    delta = _byte_transitions(states, wanted)
    rows = [
        _token_transitions(delta, 0, first),
        *(_token_transitions(delta, state, later) for state in range(len(delta))),
    ]
    table = np.zeros((len(rows), vocab_size), np.int32)
    table[:, : len(later)] = np.stack(rows) + 1  # START stands before the states of bytes
    silent = np.asarray([not said for said in later])
    table[1:, : len(later)][:, silent] = np.arange(1, len(rows))[:, None]
    table[START, : len(later)][silent] = START
    return table


def token_bytes(encoder: ChatEncoder) -> tuple[list[bytes], list[bytes]]:
    """The bytes that each token says as the first of a text, and as a later one; none for special tokens."""
    backend = encoder.tokenizer.backend_tokenizer
    special = {index for index, token in encoder.tokenizer.added_tokens_decoder.items() if token.special}
    names = [backend.id_to_token(index) or "" for index in range(encoder.vocab_size)]
    if '"ByteLevel"' in json.dumps(json.loads(backend.to_str())["decoder"]):
        letters = _byte_letters()
        said = [b"" if index in special else _spelled(name, letters) for index, name in enumerate(names)]
        return said, said
    anchor = next(index for index in range(encoder.vocab_size) if index not in special)
    pairs = [
        (b"", b"") if index in special else _probed(backend, anchor, index, names[index]) for index in range(len(names))
    ]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def _probed(backend: Tokenizer, anchor: int, index: int, name: str) -> tuple[bytes, bytes]:
    """Bytes of a token at the beginning and behind another token, by decoding; a token of one byte names it."""
    if byte := _BYTE.fullmatch(name):
        said = bytes([int(byte[1], 16)])
        return said, said
    before = backend.decode([anchor], skip_special_tokens=False)
    after = backend.decode([anchor, index], skip_special_tokens=False)
    return backend.decode([index], skip_special_tokens=False).encode(), after[len(before) :].encode()


def _byte_letters() -> dict[str, int]:
    """The letters that byte-level tokenizers write for bytes: printable ones themselves, the others from 256 on."""
    printable = {byte for byte in range(256) if chr(byte) in set(pre_tokenizers.ByteLevel.alphabet())}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}


def _spelled(name: str, letters: dict[str, int]) -> bytes:
    if all(letter in letters for letter in name):
        return bytes(letters[letter] for letter in name)
    return name.encode()  # a token added by hand is written as it is read


def _byte_transitions(states: list[bytes], wanted: list[bytes]) -> Int[np.ndarray, "states bytes"]:
    """State after one more byte: the longest end of what was read that begins a wanted text; the last is complete."""
    number = {state: place for place, state in enumerate(states)}
    delta = np.full((len(states) + 1, 256), len(states), np.int32)
    for state, row in zip(states, delta, strict=False):
        for byte in range(256):
            read = state + bytes([byte])
            if not any(read.endswith(stop) for stop in wanted):
                row[byte] = next(number[read[cut:]] for cut in range(len(read) + 1) if read[cut:] in number)
    return delta


def _token_transitions(delta: Int[np.ndarray, "states bytes"], state: int, said: list[bytes]) -> Int[np.ndarray, "v"]:
    """State after each token, from one state, a byte of all tokens at a time."""
    lengths = np.asarray([len(token) for token in said])
    order = np.argsort(-lengths, kind="stable")
    matrix = np.zeros((len(said), int(lengths.max())), np.uint8)
    matrix[np.arange(matrix.shape[1]) < lengths[:, None]] = np.frombuffer(b"".join(said), np.uint8)
    after = np.full(len(said), state, np.int32)
    for column in range(matrix.shape[1]):
        longer = order[: int((lengths > column).sum())]
        after[longer] = delta[after[longer], matrix[longer, column]]
    return after
