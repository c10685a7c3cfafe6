"""SentencePiece's byte-pair tokenizers as GGUF files hold them: pieces with scores instead of merges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

from agentprm_jax.models.gguf_file import GgufFile

KEY = "tokenizer.ggml."
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED = 1, 2, 3, 4, 5  # gguf.TokenType
_SPACE = "▁"


def sentence_pieces(file: GgufFile, names: Sequence[str]) -> Tokenizer:
    """Makes the tokenizer of the first Llamas and Mistrals.

    As llama.cpp does, a text gets a space before it, at its beginning and behind every special token, unless the file
    says `add_space_prefix` false. Of two pieces side by side those are joined first whose whole has the highest score;
    a character that is no piece is spelled in bytes.

    Args:
        file: the file.
        names: its pieces, without repetitions.

    Raises:
        ValueError: the file asks for a treatment of the text that is not supported.
    """
    kinds, scores = file.require(f"{KEY}token_type"), file.require(f"{KEY}scores")
    _check(file, kinds)
    ids = {name: index for index, name in enumerate(names)}
    unknown = file.metadata.get(f"{KEY}unknown_token_id")
    backend = Tokenizer(
        models.BPE(
            ids,
            _merges({name: score for name, score, kind in zip(names, scores, kinds, strict=True) if kind == NORMAL}),
            unk_token=None if unknown is None else names[unknown],
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    prefixed = bool(file.metadata.get(f"{KEY}add_space_prefix", True))
    spaces = normalizers.Replace(" ", _SPACE)
    steps: list[Any] = [normalizers.Prepend(_SPACE), spaces] if prefixed else [spaces]
    backend.normalizer = normalizers.Sequence(steps)  # pyright: ignore[reportAttributeAccessIssue]
    backend.decoder = _decoder(prefixed)  # pyright: ignore[reportAttributeAccessIssue]
    own = (UNKNOWN, CONTROL, USER_DEFINED)
    added = [(name, kind) for name, kind in zip(names, kinds, strict=True) if kind in own]
    backend.add_tokens([AddedToken(name, normalized=False, special=kind != USER_DEFINED) for name, kind in added])
    return backend


def _merges(scores: dict[str, float]) -> list[tuple[str, str]]:
    """All pairs of pieces that make a piece, those with the best whole first; shorter left parts first among equals."""
    wholes = sorted(scores, key=lambda name: -scores[name])
    splits = ((whole[:cut], whole[cut:]) for whole in wholes for cut in range(1, len(whole)))
    return [(left, right) for left, right in splits if left in scores and right in scores]


def _decoder(prefixed: bool) -> Any:
    steps: list[Any] = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    return decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if prefixed else steps)


def _check(file: GgufFile, kinds: Sequence[int]) -> None:
    unsupported = {
        "precompiled_charsmap": bool(len(file.metadata.get(f"{KEY}precompiled_charsmap", ()))),
        "remove_extra_whitespaces": bool(file.metadata.get(f"{KEY}remove_extra_whitespaces", False)),
        "token_type (a token that is unused)": UNUSED in kinds,
    }
    if names := [name for name, present in unsupported.items() if present]:
        raise ValueError(
            f"{file.path}: the tokenizer changes texts in a way that is not supported ({KEY}{names[0]}). Load the "
            "model from a folder with tokenizer.json instead."
        )
