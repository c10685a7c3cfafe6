import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentprm_jax.models.call_plan import at_least, packed_tokens, plan_batches, plan_passes

LENGTHS, ROWS = (4, 8, 32), (2, 8, 16)
counts = st.lists(st.integers(1, 100), min_size=1, max_size=16)


@given(counts)
@settings(deadline=None)
def test_the_passes_read_every_new_token_once_and_in_order(new):
    read = np.zeros(len(new), int)
    for step in plan_passes(np.asarray(new), LENGTHS, ROWS):
        assert (step.starts == read[step.members]).all()
        assert len(set(step.members.tolist())) == len(step.members)
        read[step.members] += step.counts
    assert read.tolist() == new


@given(counts)
@settings(deadline=None)
def test_a_pass_has_a_compiled_length_that_holds_its_counts(new):
    for step in plan_passes(np.asarray(new), LENGTHS, ROWS):
        assert step.columns in LENGTHS
        assert 1 <= step.counts.min() <= step.counts.max() <= step.columns


def test_one_long_prompt_does_not_pad_all_others():
    rows = (16, 512)
    steps = list(plan_passes(np.asarray([3] * 511 + [32]), LENGTHS, rows))
    assert [(len(step.members), step.columns) for step in steps] == [(511, 4), (1, 32)]


def test_few_prompts_are_read_in_one_pass():
    assert len(list(plan_passes(np.asarray([3, 7, 30]), LENGTHS, ROWS))) == 1


def test_the_next_size_is_the_smallest_that_suffices():
    assert [at_least(ROWS, needed) for needed in (1, 2, 3, 8, 16, 99)] == [2, 2, 8, 8, 16, 16]


def batches(rows):
    found = plan_batches(np.full(rows, 64), (64,), lambda _: (1, 4, 16))
    return [(len(batch.members), batch.rows) for batch in found]


def test_rows_that_would_half_fill_a_call_are_read_in_smaller_ones():
    assert batches(8) == [(4, 4), (4, 4)]
    assert batches(15) == [(15, 16)]
    assert batches(36) == [(16, 16), (16, 16), (4, 4)]


@given(counts)
@settings(deadline=None)
def test_every_row_stands_in_one_batch_that_has_room_for_it(new):
    new = np.minimum(new, LENGTHS[-1])
    found = list(plan_batches(new, LENGTHS, lambda columns: (1, 64 // columns)))
    assert sorted(member for batch in found for member in batch.members.tolist()) == list(range(len(new)))
    for batch in found:
        assert new[batch.members].max() <= batch.columns
        assert len(batch.members) <= batch.rows in (1, 64 // batch.columns)


@pytest.mark.parametrize(("call_cost", "columns"), [(0, [8, 32]), (10_000, [32])])
def test_rows_of_different_lengths_are_read_together_where_a_call_costs_much(call_cost, columns):
    counts = np.array([5, 20, 5, 20, 5, 20])
    batches = list(plan_batches(counts, (8, 32), lambda _: (4, 8), call_cost))
    assert [batch.columns for batch in batches] == columns
    assert sorted(np.concatenate([batch.members for batch in batches]).tolist()) == list(range(6))


@pytest.mark.parametrize(("needed", "packed"), [(1, 4), (4, 4), (5, 8), (17, 20), (28, 28), (29, None), (32, None)])
def test_of_the_places_of_a_call_no_more_than_an_eighth_too_many_is_computed(needed, packed):
    assert packed_tokens(4, 8, needed, 8) == packed
    assert packed_tokens(4, 8, needed, 1) is None
