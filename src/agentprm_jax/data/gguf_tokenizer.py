"""The tokenizer and chat template that a GGUF file holds, as the tokenizer of a Hugging Face folder.

`transformers` makes it only where torch is installed. Supported are byte-level BPE tokenizers, and those of
SentencePiece that the first Llamas and Mistrals have (`gguf_pieces`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from agentprm_jax.data.gguf_pieces import CONTROL, KEY, UNUSED, USER_DEFINED, sentence_pieces
from agentprm_jax.models.gguf_file import GgufFile, read_gguf

_BYTE_PAIRS, _PIECES = "gpt2", "llama"
_NAMED = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_PUNCTUATION = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3_WORDS = rf"{_CONTRACTIONS}|\p{{N}}{{1,3}}|{_PUNCTUATION}"
_QWEN2_WORDS = rf"{_CONTRACTIONS}|\p{{N}}|{_PUNCTUATION}"
_TEKKEN_WORDS = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class _Splitting(NamedTuple):
    """How a text is cut before its bytes are merged.

    Attributes:
        words: regular expression of a word; None is GPT-2's own.
        digits: whether every digit stands alone, before words are looked for.
        composed: whether the text is brought into Unicode's composed form (NFC) first.
        whole_words: whether a word that is a token is taken whole, whatever the merges say.
    """

    words: str | None = None
    digits: bool = False
    composed: bool = False
    whole_words: bool = False


_LLAMA3, _QWEN2 = _Splitting(_LLAMA3_WORDS, whole_words=True), _Splitting(_QWEN2_WORDS, composed=True)
SPLITTINGS = {
    "gpt-2": _Splitting(),
    "smollm": _Splitting(digits=True),
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "llama-bpe": _LLAMA3,
    "tekken": _Splitting(_TEKKEN_WORDS, whole_words=True),
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": _QWEN2,
}
"""By the file's `tokenizer.ggml.pre`."""


def gguf_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """Makes the tokenizer that a GGUF file describes.

    Args:
        path: the file.

    Returns:
        The tokenizer, with the chat template if the file has one. It adds no token at the beginning of a text: where a
        model wants one, its chat template writes it.

    Raises:
        FileNotFoundError, ImportError, CheckpointFormatError: as `models.load_pretrained`.
        ValueError: the file has no tokenizer, or one of another kind.
    """
    file = read_gguf(path)
    kind, splitting = file.require(f"{KEY}model"), file.metadata.get(f"{KEY}pre")
    if kind != _PIECES and (kind != _BYTE_PAIRS or splitting not in SPLITTINGS):
        raise ValueError(
            f"{path}: expected a tokenizer of the kind {_PIECES!r}, or {_BYTE_PAIRS!r} with {KEY}pre among "
            f"{', '.join(SPLITTINGS)}; got {kind!r} with {splitting!r}. Load the model from a folder with "
            "tokenizer.json instead."
        )
    names = _without_repetitions(file)
    backend = sentence_pieces(file, names) if kind == _PIECES else _byte_pairs(file, names, SPLITTINGS[str(splitting)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        clean_up_tokenization_spaces=False,
        **{key: _special(file, f"{KEY}{theirs}_token_id", names) for key, theirs in _NAMED.items()},
    )
    tokenizer.chat_template = file.metadata.get("tokenizer.chat_template")
    return tokenizer


def _without_repetitions(file: GgufFile) -> list[str]:
    names = file.require(f"{KEY}tokens")
    last = {name: index for index, name in enumerate(names)}
    if len(last) < len(names):
        doubled = next(name for index, name in enumerate(names) if last[name] != index)
        raise ValueError(f"{file.path}: the tokenizer has the token {doubled!r} twice.")
    return names


def _special(file: GgufFile, key: str, names: list[str]) -> str | None:
    index = file.metadata.get(key)
    if index is None:
        return None
    if type(index) is not int or not 0 <= index < len(names):
        raise ValueError(f"{file.path}, key {key}: expected the id of one of {len(names)} tokens, got {index!r}.")
    return names[index]


def _byte_pairs(file: GgufFile, names: list[str], splitting: _Splitting) -> Tokenizer:
    """Without the unused tokens that fill a file's vocabulary up, as in the folder that the file was made of."""
    kinds = file.require(f"{KEY}token_type")
    named = [file.metadata.get(f"{KEY}{theirs}_token_id") for theirs in _NAMED.values()]
    typed = enumerate(zip(names, kinds, strict=True))
    vocabulary = {name: index for index, (name, kind) in typed if kind != UNUSED or index in named}
    merges = [_merge(merge) for merge in file.require(f"{KEY}merges")]
    backend = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=splitting.whole_words))
    backend.normalizer = normalizers.NFC() if splitting.composed else None  # pyright: ignore[reportAttributeAccessIssue]
    backend.pre_tokenizer = _cutter(splitting)  # pyright: ignore[reportAttributeAccessIssue]
    backend.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    added = [(name, kind) for name, kind in zip(names, kinds, strict=True) if kind in (CONTROL, USER_DEFINED)]
    backend.add_tokens([AddedToken(name, normalized=False, special=kind == CONTROL) for name, kind in added])
    return backend


def _merge(merge: str) -> tuple[str, str]:
    left, _, right = merge.partition(" ")
    return left, right


def _cutter(splitting: _Splitting) -> Any:
    into_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=splitting.words is None)
    steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if splitting.digits else []
    if splitting.words is not None:
        steps.append(pre_tokenizers.Split(Regex(splitting.words), behavior="isolated"))
    return pre_tokenizers.Sequence([*steps, into_bytes])
