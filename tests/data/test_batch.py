"""A batch holds every trajectory as it is alone, and says exactly which tokens and steps teach something."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_trajectories import WORDS, trajectory

from agentprm_jax.data.batch import Batch, initial_values, lay_out, make_example
from agentprm_jax.data.encode import ChatEncoder
from agentprm_jax.data.trajectory import Message, Trajectory
from agentprm_jax.data.vocabulary import word_tokenizer

ENCODER = ChatEncoder(word_tokenizer(WORDS))
SIZES = {"length": 64, "max_segments": 3, "max_steps": 4}


def with_outcomes(*pairs: tuple[str, float]) -> list[Trajectory]:
    return [trajectory(outcome=outcome, task=task, name=str(k)) for k, (task, outcome) in enumerate(pairs)]


def values_of(trajectories: list[Trajectory], how="leave_one_out") -> np.ndarray:
    examples = [make_example(one, ENCODER) for one in trajectories]
    outcomes = np.asarray([example.outcome for example in examples], np.float64)
    return initial_values(outcomes, np.asarray([example.group for example in examples], np.uint64), how)


def test_a_row_holds_its_trajectories_one_after_another():
    made = [trajectory(steps=2, outcome=0.25, name="a"), trajectory(steps=3, outcome=0.5, name="b")]
    examples = [
        make_example(one, ENCODER)._replace(initial_value=value) for one, value in zip(made, [0.125, 0.75], strict=True)
    ]
    batch = lay_out([examples], **SIZES)
    first, second = (len(example.encoded.tokens) for example in examples)
    rest = 64 - first - second
    assert batch.tokens[0].tolist() == [
        *examples[0].encoded.tokens.tolist(),
        *examples[1].encoded.tokens.tolist(),
        *[0] * rest,
    ]
    assert batch.segments[0].tolist() == [1] * first + [2] * second + [0] * rest
    assert batch.positions[0].tolist() == [*range(first), *range(second), *[0] * rest]
    assert batch.step_mask[0].tolist() == [[True] * 2 + [False] * 2, [True] * 3 + [False], [False] * 4]
    assert batch.readouts[0, 1].tolist() == [*(examples[1].encoded.readouts + first).tolist(), 0]
    assert batch.outcomes[0].tolist() == [0.25, 0.5, 0.0]
    assert batch.initial_values[0].tolist() == [0.125, 0.75, 0.0]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(st.integers(0, 4), max_size=3), max_size=3))
def test_every_readout_is_an_end_of_turn_of_its_own_segment(rows):
    laid = [[make_example(trajectory(steps=steps), ENCODER) for steps in row] for row in rows]
    batch = lay_out(laid, **{**SIZES, "length": 128})
    for row, segment, step in np.argwhere(batch.step_mask):
        column = batch.readouts[row, segment, step]
        assert batch.tokens[row, column] == ENCODER.end_of_turn_id
        assert batch.segments[row, column] == segment + 1
    assert batch.step_mask.sum() == sum(map(sum, rows))
    assert (batch.readouts[~batch.step_mask] == 0).all()
    assert (batch.loss_mask[batch.segments == 0] == 0).all()


def test_only_the_actor_s_own_tokens_carry_loss_and_none_of_a_masked_action():
    talk = [
        Message("user", "red key"),
        Message("assistant", "hold"),  # an opening answer, no action
        Message("user", "ball"),
        Message("assistant", "go red", True),
        Message("user", "door"),
        Message("assistant", "go ball", True),
        Message("user", "key"),
        Message("assistant", "finish", True),
    ]
    made = Trajectory(
        id="i",
        env="e",
        task="t",
        split="s",
        messages=talk,
        rewards=[0.0, 0.0, 1.0],
        ended="terminated",
        extra={"action_loss": [True, False, True]},
    )
    batch = lay_out([[make_example(made, ENCODER)]], **SIZES)
    trained = batch.tokens[0][batch.loss_mask[0] == 1.0]
    assert ENCODER.tokenizer.convert_ids_to_tokens(trained.tolist()) == ["go", "red", "<end>", "finish", "<end>"]
    assert set(np.unique(batch.loss_mask)) == {0.0, 1.0}
    assert batch.step_mask.sum() == 3  # the step is still read by a reward model


@pytest.mark.parametrize("lesson", ["actions", "everything"])
def test_the_end_of_a_turn_that_was_never_said_is_not_taught_and_still_read(lesson):
    whole, cut = (trajectory(extra={"action_cut": marks}) for marks in ([False, False], [True, False]))
    taught, less = (lay_out([[make_example(one, ENCODER, lesson)]], **SIZES) for one in (whole, cut))
    column = less.readouts[0, 0, 0]
    assert (taught.loss_mask[0, column], less.loss_mask[0, column]) == (1.0, 0.0)
    assert taught.loss_mask.sum() == less.loss_mask.sum() + 1
    np.testing.assert_array_equal(taught.readouts, less.readouts)
    np.testing.assert_array_equal(taught.step_mask, less.step_mask)


def test_the_arrays_have_the_types_that_the_model_takes():
    batch = lay_out([[make_example(trajectory(), ENCODER)]], **SIZES)
    whole, real = np.int32, np.float32
    assert [array.dtype for array in batch] == [whole, whole, whole, real, whole, bool, real, real]
    assert batch.readouts.shape == batch.step_mask.shape == (1, 3, 4)


def test_what_does_not_fit_is_refused_by_name():
    examples = [make_example(trajectory(steps=5, name="long"), ENCODER)]
    with pytest.raises(ValueError, match=r"Trajectory long .* 4 steps, got .* and 5 steps"):
        lay_out([examples], **SIZES)
    with pytest.raises(ValueError, match=r"Trajectory long should end within 16 tokens"):
        lay_out([examples], length=16, max_segments=1, max_steps=8)
    with pytest.raises(ValueError, match="at most 1 trajectories, got 2"):
        lay_out([examples * 2], length=256, max_segments=1, max_steps=8)
    with pytest.raises(ValueError, match="one loss weight per action, 5, got 1"):
        lay_out([[examples[0]._replace(action_loss=(1.0,))]], length=256, max_segments=1, max_steps=8)


def test_no_rows_make_an_empty_batch_and_empty_rows_weigh_nothing():
    assert lay_out([], **SIZES).tokens.shape == (0, 64)
    empty = lay_out([[], []], **SIZES)
    assert all(not array.any() for array in empty)
    assert isinstance(empty, Batch)


def test_the_initial_value_of_a_trajectory_does_not_know_its_own_outcome():
    values = values_of(with_outcomes(("a", 1.0), ("a", 0.0), ("a", 0.5), ("b", 1.0), ("b", 0.25)))
    np.testing.assert_array_equal(values, np.float32([0.25, 0.75, 0.5, 0.25, 1.0]))
    assert values.dtype == np.float32


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.0, 1.0)), min_size=1, max_size=12))
def test_leaving_one_out_agrees_with_a_plain_loop(pairs):
    values = values_of(with_outcomes(*pairs))
    for index, (task, _) in enumerate(pairs):
        others = [outcome for k, (other, outcome) in enumerate(pairs) if other == task and k != index]
        expected = np.mean(others) if others else np.mean([outcome for _, outcome in pairs])
        np.testing.assert_allclose(values[index], expected, atol=1e-6)  # float32 keeps 7 digits
        assert 0.0 <= values[index] <= 1.0


def test_equal_task_names_of_two_environments_are_two_tasks():
    one = trajectory(outcome=1.0)
    other = Trajectory(
        id="o", env="textcraft", task=one.task, split="s", messages=one.messages, rewards=[0.0, 0.0], ended="truncated"
    )
    np.testing.assert_array_equal(values_of([one, one, other, other]), np.float32([1, 1, 0, 0]))


def test_initial_values_can_be_zero_and_nothing_else():
    made = with_outcomes(("a", 1.0), ("a", 1.0))
    assert values_of(made, "zero").tolist() == [0.0, 0.0]
    assert values_of([]).shape == (0,)
    with pytest.raises(ValueError, match="'mean'"):
        values_of(made, "mean")
