"""What the model is trained on: encoded trajectories with their labels, laid out in rows of one length."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float32

from agentprm_jax.data.encode import ChatEncoder, EncodedTrajectory
from agentprm_jax.data.record import Trajectory


class Batch(NamedTuple):
    """Rows of packed trajectories; a pytree of arrays with fixed shapes.

    b rows of t tokens hold up to m trajectories each (segments), with up to u steps each.

    Attributes:
        tokens: int32 [b, t].
        segments: int32 [b, t]. Which trajectory of its row a token belongs to, from 1; 0 is padding.
        positions: int32 [b, t]. Position inside the trajectory, from 0.
        loss_mask: float32 [b, t]. Weight of predicting *this* token from those before it when actions are imitated: 1
            on the tokens of actions (content and end-of-turn), 0 elsewhere and on actions that must not be imitated.
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
    """

    encoded: EncodedTrajectory
    outcome: float
    initial_value: float
    action_loss: tuple[float, ...]


def initial_values(
    trajectories: Sequence[Trajectory], how: Literal["leave_one_out", "zero"] = "leave_one_out"
) -> Float32[np.ndarray, " n"]:
    """V(s_0) for each trajectory of a data set.

    Args:
        trajectories: The data set.
        how: ``leave_one_out`` is the mean outcome of the other trajectories of the same task and environment, an
            unbiased estimate of the value of the task; where there is no other, the mean over the data set. ``zero`` is
            0.

    Returns:
        One value in [0, 1] per trajectory.

    Raises:
        ValueError: If ``how`` is unknown.
    """
    if how not in ("leave_one_out", "zero"):
        raise ValueError(f"how should be 'leave_one_out' or 'zero', got {how!r}.")
    outcomes = np.asarray([trajectory.outcome for trajectory in trajectories], np.float64)
    if how == "zero" or not len(outcomes):
        return np.zeros(len(outcomes), np.float32)
    groups = defaultdict(list)
    for index, trajectory in enumerate(trajectories):
        groups[trajectory.env, trajectory.task].append(index)
    values = np.full(len(outcomes), outcomes.mean())
    for members in groups.values():
        if len(members) > 1:
            own = outcomes[members]
            values[members] = (own.sum() - own) / (len(members) - 1)
    return np.clip(values, 0.0, 1.0).astype(np.float32)


def make_examples(
    trajectories: Sequence[Trajectory],
    encoder: ChatEncoder,
    values: Sequence[float] | Float32[np.ndarray, " n"] | None = None,
) -> list[Example]:
    """Encodes a data set.

    Args:
        trajectories: The data set.
        encoder: Makes the tokens.
        values: V(s_0) of each trajectory, see ``initial_values``; zero when not given.

    Returns:
        One example per trajectory, in order.

    Raises:
        ValueError: If the number of values is not that of the trajectories, or a trajectory cannot be encoded.
    """
    given = np.zeros(len(trajectories), np.float32) if values is None else values
    if len(given) != len(trajectories):
        raise ValueError(f"There should be one initial value per trajectory, {len(trajectories)}, got {len(given)}.")
    return [
        Example(encoder.encode(trajectory), trajectory.outcome, float(value), tuple(map(float, trajectory.action_loss)))
        for trajectory, value in zip(trajectories, given, strict=True)
    ]


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
    closing = np.searchsorted(encoded.readouts, np.arange(len(encoded.tokens)))  # the action whose end is next
    weights = np.append(np.asarray(example.action_loss, np.float32), np.float32(0.0))
    return np.where(encoded.action_mask, weights[closing], np.float32(0.0))
