import numpy as np
import pytest

from agentprm_jax.data.batch import Example
from agentprm_jax.data.encode import EncodedTrajectory
from agentprm_jax.data.packing import pack
from agentprm_jax.data.share import Share
from agentprm_jax.data.store import ExampleStore, write_block
from agentprm_jax.training.batches import PackedBatches


def example(number):
    tokens = np.full(4, number + 1, np.int32)
    encoded = EncodedTrajectory(tokens, np.array([3], np.int32), np.array([0, 0, 1, 1], bool), f"id{number}", "task")
    return Example(encoded, 0.5, 0.25, (1.0,), number // 2)


def packed(block, examples):
    write_block(block, examples)
    return pack(ExampleStore([block]), length=8)


@pytest.fixture
def rows(tmp_path):
    return packed(tmp_path / "rows", map(example, range(10)))


def test_the_names_of_a_batch_are_those_of_the_trajectories_in_it(rows):
    source = PackedBatches(rows, rows_per_batch=2, seed=3)
    for index in (0, 1, 2, 7, 31):
        numbers = {int(token) - 1 for token in np.unique(source[index].tokens) if token}
        assert {f"id{number}" for number in numbers} == set(source.names(index))
        assert len(source.names(index)) == len(numbers)


def test_batches_are_a_function_of_seed_and_index(rows):
    first, again, other = (PackedBatches(rows, rows_per_batch=2, seed=seed) for seed in (3, 3, 4))
    assert all((first[index].tokens == again[index].tokens).all() for index in (5, 0, 9))
    assert any((first[index].tokens != other[index].tokens).any() for index in range(5))


def test_shares_of_a_batch_are_its_rows_in_order_and_know_their_own_names(rows):
    whole = PackedBatches(rows, rows_per_batch=2, seed=3)
    halves = [PackedBatches(rows, rows_per_batch=2, seed=3, share=Share((part,), 2)) for part in (0, 1)]
    for index in (0, 2, 7):
        parts = [half[index].tokens for half in halves]
        assert (np.concatenate(parts) == whole[index].tokens).all()
        assert [*halves[0].names(index), *halves[1].names(index)] == whole.names(index)
    assert {half.digest for half in halves} == {whole.digest}


def test_the_digest_sees_the_data_their_initial_values_and_the_seed(rows, tmp_path):
    examples = [example(number) for number in range(10)]
    changed = packed(tmp_path / "changed", [*examples[:-1], examples[-1]._replace(outcome=1.0)])
    same = packed(tmp_path / "same", examples)
    valued = pack(rows.examples.with_initial_values(np.full(10, 0.5, np.float32)), length=8)
    digests = [
        PackedBatches(data, rows_per_batch=2, seed=seed).digest
        for data, seed in ((rows, 0), (rows, 1), (changed, 0), (valued, 0))
    ]
    assert len(set(digests)) == 4
    assert PackedBatches(same, rows_per_batch=2, seed=0).digest == digests[0]
