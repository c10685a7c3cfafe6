"""A store gives back what was written, of any size, and refuses what is not what was written."""

import errno
import itertools
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from agentprm_jax.data import store
from agentprm_jax.data.batch import Example
from agentprm_jax.data.encode import EncodedTrajectory
from agentprm_jax.data.store import INDEX, RECORDS, DamagedStore, ExampleStore, StoreWriteError, write_block


def example(number: int) -> Example:
    """An example that differs from every other in all that it holds."""
    random = np.random.default_rng(number)
    steps = number % 4
    length = 5 * steps + number % 3
    readouts = np.sort(random.choice(length, steps, replace=False)).astype(np.int32)
    encoded = EncodedTrajectory(
        tokens=random.integers(0, 150_000, length).astype(np.int32),
        readouts=readouts,
        action_mask=random.random(length) < 0.5,
        id=f"id{number}é",
        task=f"task{number // 2}",
    )
    return Example(encoded, number / 7, 0.0, random.integers(0, 2, steps).astype(float).tolist(), 2**64 - 1 - number)


def assert_same(one: Example, other: Example) -> None:
    for a, b in zip(one.encoded, other.encoded, strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.asarray(a).dtype == np.asarray(b).dtype
    assert one[1:] == other[1:]


@pytest.fixture
def blocks(tmp_path):
    """Twenty examples in blocks of 7, 0 and 13."""
    examples = map(example, range(20))
    written = [tmp_path / name for name in "abc"]
    for block, count in zip(written, (7, 0, 13), strict=True):
        write_block(block, itertools.islice(examples, count))
    return written


def test_what_was_written_is_read_back_in_any_order(blocks):
    read = ExampleStore(blocks)
    places = [19, 0, 6, 7, 7, 3]
    assert len(read) == 20
    for place, found in zip(places, read.read(places), strict=True):
        assert_same(found, example(place))
    assert read.lengths.tolist() == [len(example(k).encoded.tokens) for k in range(20)]
    assert read.steps.tolist() == [k % 4 for k in range(20)]
    assert read.outcomes.tolist() == [k / 7 for k in range(20)]
    assert read.groups.tolist() == [2**64 - 1 - k for k in range(20)]


def test_more_blocks_than_may_be_open_are_read(blocks, monkeypatch):
    monkeypatch.setattr(store, "_OPEN_BLOCKS", 1)
    read = ExampleStore(blocks)
    for place in (0, 19, 1, 18):
        assert_same(read.read([place])[0], example(place))


def test_threads_read_the_same(blocks):
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads come between each other where they can
    try:
        with ThreadPoolExecutor(8) as pool:
            for _ in range(20):
                read = ExampleStore(blocks)  # its files are not open yet
                places = [0] * 8 + [*range(20)] * 4
                for place, (found,) in zip(places, pool.map(lambda k, read=read: read.read([k]), places), strict=True):
                    assert_same(found, example(place))
    finally:
        sys.setswitchinterval(usual)


def test_initial_values_are_those_given_and_belong_to_one_view(blocks):
    read = ExampleStore(blocks)
    valued = read.with_initial_values(np.arange(20, dtype=np.float32) / 32)
    assert [one.initial_value for one in valued.read([4, 8])] == [0.125, 0.25]
    assert read.read([4])[0].initial_value == 0.0
    assert read.digest != valued.digest
    with pytest.raises(ValueError, match="one initial value per trajectory, 20, got 3"):
        read.with_initial_values(np.zeros(3, np.float32))


def changed(field: str) -> Example:
    plain = example(5)
    encoded = plain.encoded
    others = {
        "tokens": encoded._replace(tokens=encoded.tokens + 1),
        "readouts": encoded._replace(readouts=encoded.readouts - 1),
        "action_mask": encoded._replace(action_mask=~encoded.action_mask),
        "id": encoded._replace(id="other"),
    }
    if field in others:
        return plain._replace(encoded=others[field])
    return plain._replace(**{field: {"outcome": 0.0, "group": 1, "action_loss": [0.5]}[field]})


@pytest.mark.parametrize("field", ["tokens", "readouts", "action_mask", "id", "outcome", "group", "action_loss"])
def test_the_digest_sees_every_part_of_an_example(field, tmp_path):
    for name, one in {"plain": example(5), "again": example(5), "changed": changed(field)}.items():
        write_block(tmp_path / name, [one])
    plain, again, other = (ExampleStore([tmp_path / name]).digest for name in ("plain", "again", "changed"))
    assert plain == again != other


def test_the_digest_sees_the_order(blocks):
    assert ExampleStore(blocks).digest != ExampleStore(blocks[::-1]).digest


def test_records_that_were_cut_off_are_refused_when_the_store_is_opened(blocks):
    records = blocks[2] / RECORDS
    size = records.stat().st_size
    records.write_bytes(records.read_bytes()[:-1])
    with pytest.raises(DamagedStore, match=rf"c/{RECORDS} is damaged: .* got {size - 1} bytes where {size} were"):
        ExampleStore(blocks)


def test_a_changed_byte_is_refused_where_it_is_read_and_nowhere_else(blocks):
    records = blocks[0] / RECORDS
    content = bytearray(records.read_bytes())
    content[-1] ^= 1
    records.write_bytes(content)
    read = ExampleStore(blocks)
    assert_same(read.read([5])[0], example(5))
    with pytest.raises(DamagedStore, match=f"a/{RECORDS} is damaged: .* other bytes in record 6. Remove the folder"):
        read.read([6])


@pytest.mark.parametrize("damage", ["missing", "torn", "empty"])
def test_an_index_that_is_not_whole_is_refused(blocks, damage):
    index = blocks[1] / INDEX
    content = index.read_bytes()
    index.unlink()
    if damage != "missing":
        index.write_bytes(content[: len(content) // 2] if damage == "torn" else b"")
    with pytest.raises(DamagedStore, match="b is damaged: expected a block of encoded trajectories"):
        ExampleStore(blocks)


def test_a_block_that_vanishes_is_an_answer_in_a_sentence(blocks):
    read = ExampleStore(blocks)
    shutil.rmtree(blocks[0])
    with pytest.raises(DamagedStore, match=r"a/.* is damaged: .*No such file"):
        read.read([0])


def test_a_full_disk_leaves_no_part_of_a_block_and_says_what_to_do(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(StoreWriteError, match=r"No space left on device.* Make room") as caught:
        write_block(tmp_path / "a", [example(1)])
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_a_block_is_never_written_over(blocks):
    with pytest.raises(StoreWriteError, match="should not be there yet"):
        write_block(blocks[0], [example(1)])
