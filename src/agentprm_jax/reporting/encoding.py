"""Encodes the trajectories of a training run once, by all of its processes together; the first shows its progress."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from agentprm_jax.data.batch import Lesson
from agentprm_jax.data.encode import ChatEncoder
from agentprm_jax.data.encode_file import claim_store, encode_share, open_store
from agentprm_jax.data.store import ExampleStore
from agentprm_jax.reporting.progress import progress


def encode_together(folder: Path, source: Path, encoder: ChatEncoder, lesson: Lesson) -> ExampleStore:
    """The trajectories of a file as a store in a folder; what has been encoded there before is used.

    Each process encodes a part of the blocks. All must call it, and see the same file and the same folder.

    Args:
        folder: of the store; made when missing.
        source: file of trajectories.
        encoder: makes the tokens.
        lesson: what the trajectories are to teach.

    Raises:
        BadLine, ValueError, OSError, DamagedStore: as `claim_store`, `encode_share` and `open_store` do.
        OtherProcessFailed: another process met such an error.
    """
    import jax

    from agentprm_jax.training.distributed import all_or_none

    part, parts = jax.process_index(), jax.process_count()
    with all_or_none(f"preparing {folder}"):
        if part == 0:
            claim_store(folder, source, encoder, lesson, watch=_show)
    with all_or_none(f"encoding {source}"):
        encode_share(folder, source, encoder, watch=_show if part == 0 else _pass_on, part=part, parts=parts)
    return open_store(folder)


def _show(items: Iterable[Any], label: str, total: int | None) -> Iterator[Any]:
    return progress(items, label, total=total)


def _pass_on(items: Iterable[Any], label: str, total: int | None) -> Iterator[Any]:
    del label, total
    return iter(items)
