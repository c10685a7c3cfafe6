"""What the model is trained on: encoded trajectories with their labels, laid out in rows of one length."""

import hashlib
from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from jaxtyping import Float32, Float64, UInt64

from agentprm_jax.data.encode import ChatEncoder, EncodedTrajectory
from agentprm_jax.data.record import Trajectory

Lesson = Literal["actions", "everything", "steps"]
"""What of a trajectory is taught: to say its actions; to say every token, observations too; or to value its steps, for
which what was said after the last action is left out. No lesson teaches to end a turn where an action was cut off."""


class Batch(NamedTuple):
    """Rows of packed trajectories; a pytree of arrays with fixed shapes.

    b rows of t tokens hold up to m trajectories each (segments), with up to u steps each.

    Attributes:
        tokens: int32 [b, t].
        segments: int32 [b, t]. Which trajectory of its row a token belongs to, from 1; 0 is padding.
        positions: int32 [b, t]. Position inside the trajectory, from 0.
        loss_mask: float32 [b, t]. Weight of predicting *this* token from those before it when actions are imitated: 1
            on the tokens of actions (content and end-of-turn), 0 elsewhere, on actions that must not be imitated and on
            the end-of-turn of those that were cut off.
        readouts: int32 [b, m, u]. Column at which the step is read: its end-of-turn token. 0 where there is no step.
        step_mask: bool [b, m, u]. Whether there is such a step; right-padded.
        outcomes: float32 [b, m]. Outcome of the trajectory, in [0, 1].
        initial_values: float32 [b, m]. V(s_0) of the trajectory, in [0, 1].
    """

    tokens: np.ndarray
    segments: np.ndarray
    positions: np.ndarray
    loss_mask: np.ndarray
    readouts: np.ndarray
    step_mask: np.ndarray
    outcomes: np.ndarray
    initial_values: np.ndarray


class Example(NamedTuple):
    """An encoded trajectory with what it teaches.

    Attributes:
        encoded: The tokens.
        outcome: Outcome of the trajectory, in [0, 1].
        initial_value: V(s_0), in [0, 1].
        action_loss: One weight per action, at least 0, for imitating its tokens.
        group: Number that trajectories of one task and environment share, and others do not.
    """

    encoded: EncodedTrajectory
    outcome: float
    initial_value: float
    action_loss: Sequence[float]
    group: int


def initial_values(
    outcomes: Float64[np.ndarray, " n"],
    groups: UInt64[np.ndarray, " n"],
    how: Literal["leave_one_out", "zero"] = "leave_one_out",
) -> Float32[np.ndarray, " n"]:
    """V(s_0) for each trajectory of a data set.

    Args:
        outcomes: Outcome of each trajectory, in [0, 1].
        groups: The ``Example.group`` of each.
        how: ``leave_one_out`` is the mean outcome of the other trajectories of the same group, an unbiased estimate of
            the value of the task; where there is no other, the mean over the data set. ``zero`` is 0.

    Returns:
        One value in [0, 1] per trajectory.

    Raises:
        ValueError: If ``how`` is unknown.
    """
    if how not in ("leave_one_out", "zero"):
        raise ValueError(f"how should be 'leave_one_out' or 'zero', got {how!r}.")
    if how == "zero" or not len(outcomes):
        return np.zeros(len(outcomes), np.float32)
    order = np.argsort(groups, kind="stable")
    _, counts = np.unique(groups, return_counts=True)
    ends = np.cumsum(counts)
    values = np.full(len(outcomes), outcomes.mean())
    for end, count in zip(ends[counts > 1].tolist(), counts[counts > 1].tolist(), strict=True):
        members = order[end - count : end]
        own = outcomes[members]
        values[members] = (own.sum() - own) / (count - 1)
    return np.clip(values, 0.0, 1.0).astype(np.float32)


def make_example(trajectory: Trajectory, encoder: ChatEncoder, lesson: Lesson = "actions") -> Example:
    """Encodes a trajectory for training.

    Args:
        trajectory: What to encode.
        encoder: Makes the tokens.
        lesson: What it is to teach.

    Returns:
        The example; its initial value, which depends on the other trajectories of the data set, is 0.

    Raises:
        ValueError: If the trajectory cannot be encoded.
    """
    encoded = encoder.encode(trajectory)
    if lesson == "everything":
        mask = np.ones_like(encoded.action_mask)
        mask[encoded.readouts] = encoded.action_mask[encoded.readouts]
        encoded = encoded._replace(action_mask=mask)
    if lesson == "steps":
        encoded = encoded.up_to_last_action()
    return Example(encoded, trajectory.outcome, 0.0, tuple(map(float, trajectory.action_loss)), _group(trajectory))


def _group(trajectory: Trajectory) -> int:
    """64 bits of a digest of environment and task: among a million tasks two share them with a chance of 3e-8."""
    name = msgspec.msgpack.encode((trajectory.env, trajectory.task))
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big")


def lay_out(rows: Sequence[Sequence[Example]], *, length: int, max_segments: int, max_steps: int) -> Batch:
    """Writes examples into the arrays of a batch.

    Args:
        rows: The examples of each row, in order; a row may be empty.
        length: Tokens of a row.
        max_segments: Examples that a row has room for.
        max_steps: Steps that an example has room for.

    Returns:
        The batch; b is the number of rows.

    Raises:
        ValueError: If a row has more tokens or examples, or an example more steps, than there is room for.
    """
    batch = _empty_batch(len(rows), length, max_segments, max_steps)
    for row, examples in enumerate(rows):
        if len(examples) > max_segments:
            raise ValueError(f"A row should hold at most {max_segments} trajectories, got {len(examples)}.")
        start = 0
        for segment, example in enumerate(examples):
            _write(batch, row, segment, start, example)
            start += len(example.encoded.tokens)
    return batch


def _empty_batch(rows: int, length: int, max_segments: int, max_steps: int) -> Batch:
    return Batch(
        tokens=np.zeros((rows, length), np.int32),
        segments=np.zeros((rows, length), np.int32),
        positions=np.zeros((rows, length), np.int32),
        loss_mask=np.zeros((rows, length), np.float32),
        readouts=np.zeros((rows, max_segments, max_steps), np.int32),
        step_mask=np.zeros((rows, max_segments, max_steps), bool),
        outcomes=np.zeros((rows, max_segments), np.float32),
        initial_values=np.zeros((rows, max_segments), np.float32),
    )


def _write(batch: Batch, row: int, segment: int, start: int, example: Example) -> None:
    """Writes one example into its place."""
    encoded = example.encoded
    count, steps = len(encoded.tokens), len(encoded.readouts)
    length, max_steps = batch.tokens.shape[1], batch.readouts.shape[2]
    if start + count > length or steps > max_steps:
        raise ValueError(
            f"Trajectory {encoded.id} should end within {length} tokens and {max_steps} steps, "
            f"got {start + count} tokens (it begins at {start}) and {steps} steps."
        )
    place = slice(start, start + count)
    batch.tokens[row, place] = encoded.tokens
    batch.segments[row, place] = segment + 1
    batch.positions[row, place] = np.arange(count)
    batch.loss_mask[row, place] = _loss_weights(example)
    batch.readouts[row, segment, :steps] = encoded.readouts + start
    batch.step_mask[row, segment, :steps] = True
    batch.outcomes[row, segment] = example.outcome
    batch.initial_values[row, segment] = example.initial_value


def _loss_weights(example: Example) -> Float32[np.ndarray, " t"]:
    """The weight of each token: that of the action that it belongs to, 0 for tokens of no action."""
    encoded = example.encoded
    if len(example.action_loss) != len(encoded.readouts):
        raise ValueError(
            f"Trajectory {encoded.id} should have one loss weight per action, {len(encoded.readouts)}, "
            f"got {len(example.action_loss)}."
        )
    if not example.action_loss:
        return np.zeros(len(encoded.tokens), np.float32)
    weights = np.zeros(len(encoded.tokens), np.float32)
    spans = encoded.readouts + 1  # tokens from the end of the action before to the end of each action
    spans[1:] -= spans[:-1].copy()
    weights[: encoded.readouts[-1] + 1] = np.repeat(np.asarray(example.action_loss, np.float32), spans)
    weights *= encoded.action_mask
    return weights
