"""Which rows make up a step is a function of seed and step; processes share the same global batch."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_trajectories import WORDS, trajectory

from agentprm_jax.data.batch import make_example
from agentprm_jax.data.encode import ChatEncoder
from agentprm_jax.data.loader import batches, row_order, steps_per_epoch
from agentprm_jax.data.packing import pack
from agentprm_jax.data.share import Share
from agentprm_jax.data.store import ExampleStore, write_block
from agentprm_jax.data.vocabulary import word_tokenizer

quick = settings(deadline=None, max_examples=40)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Thirteen rows of one to three trajectories."""
    made = [trajectory(steps=1 + k % 4, outcome=(k + 1) / 32, name=str(k)) for k in range(30)]
    encoder, folder = ChatEncoder(word_tokenizer(WORDS)), tmp_path_factory.mktemp("store")
    blocks = [folder / "0", folder / "1"]
    for block, part in zip(blocks, (made[:20], made[20:]), strict=True):
        write_block(block, (make_example(one, encoder) for one in part))
    packed = pack(ExampleStore(blocks), length=64, max_segments=3)
    assert len(packed) % 4
    return packed


def assert_equal(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


@quick
@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 2**40), st.integers(0, 5))
def test_an_epoch_shows_every_row_once(count, size, seed, epoch):
    order = row_order(count, rows_per_batch=size, seed=seed)
    steps = -(-count // size)
    shown = [number for step in range(epoch * steps, (epoch + 1) * steps) for number in order[step]]
    assert sorted(number for number in shown if number >= 0) == list(range(count))
    assert len(shown) == steps * size
    assert shown.count(-1) == steps * size - count


@quick
@given(st.integers(1, 40), st.integers(1, 4), st.sampled_from([1, 2, 3, 4]), st.integers(0, 100), st.integers(0, 50))
def test_the_parts_together_are_the_batch_of_one_process(count, rows, of, seed, step):
    whole = row_order(count, rows_per_batch=rows * of, seed=seed)[step]
    parts = [
        row_order(count, rows_per_batch=rows * of, seed=seed, share=Share((part,), of))[step] for part in range(of)
    ]
    assert all(len(part) == rows for part in parts)
    assert list(itertools.chain(*parts)) == whole


@quick
@given(st.integers(1, 40), st.integers(1, 3), st.sets(st.integers(0, 5), min_size=1), st.integers(0, 50))
def test_a_share_is_its_parts_in_order_wherever_they_lie(count, rows, parts, step):
    whole = row_order(count, rows_per_batch=rows * 6, seed=1)[step]
    found = row_order(count, rows_per_batch=rows * 6, seed=1, share=Share(tuple(sorted(parts)), 6))[step]
    assert found == [number for part in sorted(parts) for number in whole[part * rows : (part + 1) * rows]]


def test_a_batch_depends_on_seed_and_step_and_not_on_what_was_asked_before(rows):
    one, other = (batches(rows, rows_per_batch=4, seed=3) for _ in range(2))
    walked = [one[step] for step in range(12)]
    for step in (11, 0, 5, 5, 10):
        assert_equal(other[step], walked[step])


def test_every_trajectory_is_seen_once_in_every_epoch(rows):
    loader = batches(rows, rows_per_batch=4, seed=0)
    steps = steps_per_epoch(rows, 4)
    for epoch in range(3):
        seen = []
        for step in range(epoch * steps, (epoch + 1) * steps):
            batch = loader[step]
            seen.extend(batch.outcomes[batch.step_mask.any(-1)].tolist())
        assert sorted(seen) == [(k + 1) / 32 for k in range(30)]


def test_all_batches_have_the_same_shapes(rows):
    loader = batches(rows, rows_per_batch=4, seed=0)
    shapes = {tuple(array.shape for array in loader[step]) for step in range(2 * steps_per_epoch(rows, 4))}
    assert len(shapes) == 1


def orders(count: int, seed: int, epochs: int) -> list[tuple[int, ...]]:
    order = row_order(count, rows_per_batch=count, seed=seed)
    return [tuple(order[epoch]) for epoch in range(epochs)]


def test_every_epoch_and_every_seed_has_an_order_of_its_own():
    every = [order for seed in range(8) for order in orders(50, seed, 8)]
    assert len(set(every)) == len(every)


def test_every_row_comes_first_about_equally_often():
    firsts = [order[0] for seed in range(10) for order in orders(5, seed, 100)]
    counts = np.bincount(firsts, minlength=5)
    assert (abs(counts - 200) < 64).all()  # five standard deviations of a binomial of 1000 and 1/5


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"rows_per_batch": 0}, "got 0 rows"),
        ({"rows_per_batch": 4, "share": Share((0,), 3)}, "got 4 rows for 3 parts"),
        ({"rows_per_batch": 4, "share": Share((0, 2), 2)}, r"in \[0, 2\), got \(0, 2\)"),
        ({"rows_per_batch": 4, "seed": -1}, "seed should be at least 0, got -1"),
    ],
)
def test_a_loader_that_cannot_be_shared_is_refused(rows, wrong, text):
    with pytest.raises(ValueError, match=text):
        batches(rows, **{"seed": 0, **wrong})


def test_a_loader_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one row"):
        batches(pack(ExampleStore([]), length=64), rows_per_batch=1, seed=0)
