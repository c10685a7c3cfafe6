"""Trajectories: the record, its files, chat encoding, packing into fixed shapes, and loading."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentprm_jax.data.batch import Batch, Example, Lesson, initial_values, make_example
    from agentprm_jax.data.encode import ChatEncoder, EncodedTrajectory
    from agentprm_jax.data.encode_file import claim_store, encode_share, open_store
    from agentprm_jax.data.loader import batches, row_order, steps_per_epoch
    from agentprm_jax.data.packing import Examples, ExampleTooLong, PackedRows, choose_length, pack
    from agentprm_jax.data.share import Share
    from agentprm_jax.data.store import DamagedStore, ExampleStore, StoreWriteError, write_block
    from agentprm_jax.data.tokenizer_files import load_encoder
    from agentprm_jax.data.trajectory import (
        ActorInfo,
        BadLine,
        BadTrajectory,
        Message,
        RecordedScores,
        Trajectories,
        Trajectory,
        TrajectoryWriteError,
        TrajectoryWriter,
        iterate_trajectories,
        read_trajectories,
        write_trajectories,
    )
    from agentprm_jax.data.vocabulary import word_tokenizer

_MODULES = {
    "trajectory": (
        "ActorInfo",
        "BadLine",
        "BadTrajectory",
        "Message",
        "RecordedScores",
        "Trajectories",
        "Trajectory",
        "TrajectoryWriteError",
        "TrajectoryWriter",
        "iterate_trajectories",
        "read_trajectories",
        "write_trajectories",
    ),
    "encode": ("ChatEncoder", "EncodedTrajectory"),
    "tokenizer_files": ("load_encoder",),
    "vocabulary": ("word_tokenizer",),
    "batch": ("Batch", "Example", "Lesson", "initial_values", "make_example"),
    "packing": ("ExampleTooLong", "Examples", "PackedRows", "choose_length", "pack"),
    "store": ("DamagedStore", "ExampleStore", "StoreWriteError", "write_block"),
    "encode_file": ("claim_store", "encode_share", "open_store"),
    "loader": ("batches", "row_order", "steps_per_epoch"),
    "share": ("Share",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "ActorInfo",
    "BadLine",
    "BadTrajectory",
    "Batch",
    "ChatEncoder",
    "DamagedStore",
    "EncodedTrajectory",
    "Example",
    "ExampleStore",
    "ExampleTooLong",
    "Examples",
    "Lesson",
    "Message",
    "PackedRows",
    "RecordedScores",
    "Share",
    "StoreWriteError",
    "Trajectories",
    "Trajectory",
    "TrajectoryWriteError",
    "TrajectoryWriter",
    "batches",
    "choose_length",
    "claim_store",
    "encode_share",
    "initial_values",
    "iterate_trajectories",
    "load_encoder",
    "make_example",
    "open_store",
    "pack",
    "read_trajectories",
    "row_order",
    "steps_per_epoch",
    "word_tokenizer",
    "write_block",
    "write_trajectories",
]


def __getattr__(name: str) -> Any:
    """Imports a public name on first use: the record must not cost an import of the tokenizer or loader libraries."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
