"""Packing loses nothing, respects every limit and wastes little."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_examples import Listed

from agentprm_jax.data.batch import Example
from agentprm_jax.data.encode import EncodedTrajectory
from agentprm_jax.data.packing import (
    ROW_LENGTHS,
    ExampleTooLong,
    PackedRows,
    assign_rows,
    assign_rows_of_lengths,
    choose_length,
    pack,
)

quick = settings(deadline=None, max_examples=100)
lengths_up_to_64 = st.lists(st.integers(0, 64), max_size=40)


def example(tokens: int, steps: int = 1, name: str = "one") -> Example:
    """An example of so many tokens, all the same, that ends each of its first actions after one token."""
    encoded = EncodedTrajectory(
        np.full(tokens, tokens, np.int32), np.arange(steps, dtype=np.int32), np.zeros(tokens, bool), name, "task"
    )
    return Example(encoded, 0.5, 0.25, (1.0,) * steps, 0)


def packed(lengths: list[int], **limits):
    examples = [example(length, min(1, length), str(k)) for k, length in enumerate(lengths)]
    return pack(Listed(examples), length=64, **limits)


def all_members(rows: PackedRows) -> list[list[int]]:
    return [rows.members(row) for row in range(len(rows))]


@quick
@given(lengths_up_to_64, st.none() | st.integers(1, 5), st.integers(1, 50))
def test_every_example_is_in_one_row_and_no_row_is_too_full(lengths, max_segments, window):
    rows = packed(lengths, max_segments=max_segments, window=window)
    assert sorted(index for row in all_members(rows) for index in row) == list(range(len(lengths)))
    for row in all_members(rows):
        assert sum(lengths[index] for index in row) <= 64
        assert 1 <= len(row) <= rows.max_segments <= (max_segments or max(1, len(lengths)))


@quick
@given(lengths_up_to_64, st.integers(1, 50))
def test_examples_share_a_row_only_with_those_of_their_window(lengths, window):
    for row in assign_rows(lengths, 64, None, window):
        assert row[0] // window == row[-1] // window
        assert row == sorted(row)


@quick
@given(st.lists(st.integers(1, 64), min_size=1, max_size=40))
def test_no_two_rows_of_a_window_could_be_one(lengths):
    filled = sorted(sum(lengths[index] for index in row) for row in assign_rows(lengths, 64))
    assert all(one + other > 64 for one, other in itertools.pairwise(filled))


@quick
@given(lengths_up_to_64)
def test_the_share_of_padding_is_counted_from_the_arrays(lengths):
    rows = packed(lengths)
    batch = rows.batch(range(len(rows)))
    share = (batch.segments == 0).mean() if len(rows) else 0.0
    assert rows.padding_share == pytest.approx(share)


def test_realistic_lengths_leave_little_padding():
    random = np.random.default_rng(0)
    spreads = {
        "short episodes": random.integers(40, 160, 4000),
        "long tail": np.minimum(random.lognormal(5.2, 0.6, 4000).astype(int) + 1, 1000),
    }
    for lengths in spreads.values():
        length = choose_length(lengths.tolist())
        rows = list(assign_rows(lengths.tolist(), length))
        assert 1 - lengths.sum() / (len(rows) * length) < 0.05


@quick
@given(st.lists(st.integers(1, 200), max_size=40))
def test_rows_of_several_lengths_hold_every_example_once_in_the_shortest_row_for_its_longest(lengths):
    choices = (16, 24, 32, 64)
    groups = assign_rows_of_lengths(lengths, choices)
    assert sorted(place for rows in groups.values() for row in rows for place in row) == list(range(len(lengths)))
    for length, rows in groups.items():
        for held in ([lengths[place] for place in row] for row in rows):
            assert sum(held) <= length
            able = [choice for choice in choices if choice >= max(held)]
            assert length == (able[0] if able else -(-max(held) // 64) * 64)


def test_short_examples_fill_up_the_rows_of_long_ones():
    assert assign_rows_of_lengths([20, 40, 24, 8], (32, 64)) == {64: [[1, 2]], 32: [[0, 3]]}


def test_the_segments_of_a_row_are_its_members_in_order():
    rows = pack(Listed([example(10, name="a"), example(30, name="b"), example(20, name="c")]), length=64)
    assert all_members(rows) == [[0, 1, 2]]
    batch = rows.batch([0])
    tokens_of = {int(batch.tokens[0, np.argmax(batch.segments[0] == k)]) for k in (1, 2, 3)}
    assert tokens_of == {10, 30, 20}
    assert batch.tokens[0, :10].tolist() == [10] * 10


def test_a_batch_is_any_choice_of_rows_and_minus_one_is_padding():
    rows = pack(Listed([example(60), example(50), example(40)]), length=64, max_segments=2, max_steps=3)
    batch = rows.batch([2, -1, 0])
    assert batch.tokens[:, 0].tolist() == [40, 0, 60]
    assert not batch.segments[1].any()
    assert batch.readouts.shape == (3, 2, 3)


def test_packing_the_same_examples_gives_the_same_rows():
    lengths = np.random.default_rng(1).integers(1, 64, 300).tolist()
    assert all_members(packed(lengths)) == all_members(packed(lengths))


def test_an_example_that_is_too_long_is_refused_by_name_or_dropped_and_counted():
    examples = [example(10, name="a"), example(65, name="b"), example(20, steps=5, name="c"), example(20, name="d")]
    with pytest.raises(
        ExampleTooLong, match=r"64 tokens and 4 steps, but 2 have more; the first is b with 65"
    ) as error:
        pack(Listed(examples), length=64, max_steps=4)
    assert error.value.place == 1
    rows = pack(Listed(examples), length=64, max_steps=4, too_long="drop")
    assert rows.dropped == (1, 2)
    assert all_members(rows) == [[0, 3]]


def test_limits_that_are_not_given_are_what_the_data_need():
    rows = pack(Listed([example(20, steps=3), example(20, steps=5), example(20)]), length=64)
    assert (rows.max_segments, rows.max_steps) == (3, 5)
    assert pack(Listed([]), length=64).batch([]).tokens.shape == (0, 64)


@pytest.mark.parametrize("wrong", [{"length": 0}, {"max_segments": 0}, {"max_steps": 0}, {"window": 0}])
def test_a_limit_below_one_is_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} should be at least 1, got 0"):
        pack(Listed([example(1)]), **{"length": 64, **wrong})


def test_another_way_to_treat_long_examples_is_refused():
    with pytest.raises(ValueError, match="'cut'"):
        pack(Listed([example(1)]), length=64, too_long="cut")


@quick
@given(st.lists(st.integers(1, 300), min_size=1, max_size=30), st.floats(0.0, 0.5))
def test_the_chosen_length_is_the_shortest_that_wastes_little_enough(lengths, most):
    chosen = choose_length(lengths, most_padding=most)
    shares = {}
    for choice in ROW_LENGTHS:
        if choice >= max(lengths):
            shares[choice] = 1 - sum(lengths) / (len(list(assign_rows(lengths, choice))) * choice)
    good = [choice for choice, share in shares.items() if share <= most]
    assert chosen == (min(good) if good else min(shares, key=lambda choice: (shares[choice], choice)))


def test_a_length_cannot_be_chosen_for_nothing_or_for_too_much():
    with pytest.raises(ValueError, match="got none"):
        choose_length([])
    with pytest.raises(ValueError, match="128 tokens, should hold every example, got one of 200"):
        choose_length([200], choices=(64, 128))


def test_packed_rows_print_as_a_summary():
    assert repr(packed([32, 16])) == "PackedRows(1 rows of 64 tokens, 25.0% padding)"
