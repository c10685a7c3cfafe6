"""A file is encoded once, whoever encodes it and however often it is interrupted, and again when it has changed."""

import gzip
import logging
import os

import numpy as np
import pytest
from made_trajectories import WORDS, trajectory

from agentprm_jax.data.batch import make_example
from agentprm_jax.data.encode import ChatEncoder
from agentprm_jax.data.encode_file import MANIFEST, claim_store, encode_share, line_of, open_store
from agentprm_jax.data.store import DamagedStore
from agentprm_jax.data.trajectory import BadLine, Message, write_trajectories
from agentprm_jax.data.vocabulary import word_tokenizer

ENCODER = ChatEncoder(word_tokenizer(WORDS))
BLOCK = 4


class Watched:
    """Counts what it passes on; can be told to interrupt."""

    def __init__(self, stop_at: int | None = None):
        self.stop_at = stop_at
        self.encoded = 0
        self.totals = []

    def __call__(self, items, label, total):
        self.totals += [total] if label.startswith("encoding") else []
        for item in items:
            yield item
            self.encoded += label.startswith("encoding")
            if self.encoded == self.stop_at:
                raise KeyboardInterrupt


def made(count: int = 18):
    closing = Message("user", "nothing")
    plain = [trajectory(steps=1 + k % 3, outcome=k / 32, name=f"t{k}") for k in range(count)]
    return [trajectory(2, messages=[*one.messages, closing], rewards=one.rewards, name=one.id) for one in plain]


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "made.jsonl"
    write_trajectories(path, made())
    return path


def encoded(folder, source, *, encoder=ENCODER, lesson="actions", parts=1, watch=None):
    watch = watch or Watched()
    claim_store(folder, source, encoder, lesson, watch=watch, block=BLOCK)
    for part in range(parts):
        encode_share(folder, source, encoder, watch=watch, part=part, parts=parts)
    return open_store(folder)


@pytest.mark.parametrize("lesson", ["actions", "everything", "steps"])
def test_every_trajectory_is_there_once_in_the_order_of_the_file(source, tmp_path, lesson):
    store = encoded(tmp_path / "store", source, lesson=lesson)
    for found, one in zip(store.read(range(len(store))), made(), strict=True):
        expected = make_example(one, ENCODER, lesson)
        np.testing.assert_array_equal(found.encoded.tokens, expected.encoded.tokens)
        np.testing.assert_array_equal(found.encoded.action_mask, expected.encoded.action_mask)
        assert found.encoded.id == one.id
        assert (found.outcome, found.group) == (expected.outcome, expected.group)


def test_a_lesson_on_steps_ends_with_the_last_action_and_one_on_everything_masks_nothing(source, tmp_path):
    stores = [encoded(tmp_path / lesson, source, lesson=lesson) for lesson in ("actions", "steps", "everything")]
    for whole, cut, every in zip(*(store.read(range(18)) for store in stores), strict=True):
        assert len(cut.encoded.tokens) == cut.encoded.readouts[-1] + 1 < len(whole.encoded.tokens)
        assert every.encoded.action_mask.all()
        assert not whole.encoded.action_mask.all()


@pytest.mark.parametrize("parts", [2, 3, 7])
def test_the_shares_of_processes_are_disjoint_and_together_the_whole(source, tmp_path, parts):
    whole = encoded(tmp_path / "whole", source)
    claim_store(tmp_path / "shared", source, ENCODER, "actions", watch=Watched(), block=BLOCK)
    owners = {}
    for part in reversed(range(parts)):
        before = set((tmp_path / "shared").glob("0*"))
        encode_share(tmp_path / "shared", source, ENCODER, watch=Watched(), part=part, parts=parts)
        owners[part] = set((tmp_path / "shared").glob("0*")) - before
    assert sum(map(len, owners.values())) == 5
    assert {int(block.name) % parts for block in owners[0]} == {0}
    assert open_store(tmp_path / "shared").digest == whole.digest


@pytest.mark.parametrize("stop_at", [1, 4, 11, 18])
def test_an_interrupted_encoding_goes_on_with_the_first_block_that_is_missing(source, tmp_path, stop_at):
    whole = encoded(tmp_path / "whole", source)
    with pytest.raises(KeyboardInterrupt):
        encoded(tmp_path / "store", source, watch=Watched(stop_at))
    again = Watched()
    store = encoded(tmp_path / "store", source, watch=again)
    kept = BLOCK * (stop_at // BLOCK)
    assert again.encoded == again.totals[0]
    assert 18 - kept <= again.encoded <= 18 - max(0, kept - BLOCK)
    assert store.digest == whole.digest
    assert not list((tmp_path / "store").glob("*.partial"))


def test_what_a_killed_process_left_is_cleared_away(source, tmp_path):
    torn = tmp_path / "store" / "000001.17.partial"
    torn.mkdir(parents=True)
    (torn / "records").write_text("torn")
    (tmp_path / "store" / f"{MANIFEST}.17.partial").write_text("{")
    for _ in range(2):
        assert len(encoded(tmp_path / "store", source)) == 18
        assert not list((tmp_path / "store").glob("*.partial"))
        torn.mkdir()


def test_a_complete_store_is_opened_without_reading_the_file_again(source, tmp_path):
    encoded(tmp_path / "store", source)
    status = source.stat()
    source.write_bytes(b"?" * status.st_size)
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    again = Watched()
    assert len(encoded(tmp_path / "store", source, watch=again)) == 18
    assert again.totals == []


def test_a_file_with_the_same_lines_is_the_same_file(source, tmp_path):
    encoded(tmp_path / "store", source)
    packed = tmp_path / "made.jsonl.gz"
    packed.write_bytes(gzip.compress(source.read_bytes()))
    os.utime(source, ns=(1, 1))
    again = Watched()
    for same in (source, packed):
        assert len(encoded(tmp_path / "store", same, watch=again)) == 18
    assert again.totals == []


def test_a_changed_file_is_encoded_again_and_the_log_says_so(source, tmp_path, caplog):
    first = encoded(tmp_path / "store", source).digest
    write_trajectories(source, made(6))
    with caplog.at_level(logging.WARNING):
        store = encoded(tmp_path / "store", source)
    assert len(store) == 6
    assert store.digest != first
    assert "made.jsonl is encoded again, because it was encoded with another content." in caplog.text


def test_another_tokenizer_or_lesson_encodes_again(source, tmp_path, caplog):
    encoded(tmp_path / "store", source)
    other = ChatEncoder(word_tokenizer(("more", *WORDS)))
    moved = encoded(tmp_path / "store", source, encoder=other)
    assert moved.read([0])[0].encoded.tokens.tolist() == other.encode(made()[0]).tokens.tolist()
    encoded(tmp_path / "store", source, encoder=other, lesson="steps")
    assert "with another tokenizer" in caplog.text
    assert "with another lesson" in caplog.text


def test_a_bad_line_is_named_with_file_line_and_field_and_blocks_before_it_stay(source, tmp_path):
    lines = source.read_bytes().splitlines(keepends=True)
    lines[9] = lines[9].replace(b'"role":"user"', b'"role":"king"', 1)
    source.write_bytes(b"\n".join([b"", *lines]))
    with pytest.raises(BadLine, match=r"made\.jsonl, line 20, field `messages\[0\]\.role`: expected one of .*'king'"):
        encoded(tmp_path / "store", source)
    assert sorted(path.name for path in (tmp_path / "store").glob("0*")) == ["000000", "000001"]
    with pytest.raises(DamagedStore, match=r"should hold 5 blocks .* 3 are missing, the first is 000002"):
        open_store(tmp_path / "store")


def test_an_unknown_word_is_named_with_file_line_and_trajectory(source, tmp_path):
    write_trajectories(source, [*made(5), trajectory(name="odd", messages=[Message("user", "xyz")], steps=0)])
    source.write_bytes(b"\n" + source.read_bytes())
    said = r"made\.jsonl, line 7: Trajectory odd, message 0: the tokenizer does not know 'xyz'"
    with pytest.raises(ValueError, match=said):
        encoded(tmp_path / "store", source)


def test_the_line_of_a_trajectory_in_a_store_is_the_one_that_holds_it(source, tmp_path):
    source.write_bytes(source.read_bytes().replace(b"\n", b"\n \n", 3))
    store, lines = encoded(tmp_path / "store", source), source.read_bytes().splitlines()
    for place, example in enumerate(store.read(range(18))):
        assert f'"id":"{example.encoded.id}"'.encode() in lines[line_of(source, place) - 1]


def test_a_file_that_grows_while_it_is_encoded_is_encoded_as_it_was_and_then_again(source, tmp_path):
    claim_store(tmp_path / "store", source, ENCODER, "actions", watch=Watched(), block=BLOCK)
    write_trajectories(source, made(30))
    encode_share(tmp_path / "store", source, ENCODER, watch=Watched())
    assert len(open_store(tmp_path / "store")) == 18
    assert len(encoded(tmp_path / "store", source)) == 30


def test_a_file_that_shrinks_while_it_is_encoded_is_refused(source, tmp_path):
    claim_store(tmp_path / "store", source, ENCODER, "actions", watch=Watched(), block=BLOCK)
    write_trajectories(source, made(17))
    encode_share(tmp_path / "store", source, ENCODER, watch=Watched())
    with pytest.raises(DamagedStore, match="should hold 18 trajectories, got 17: the file changed while"):
        open_store(tmp_path / "store")


def test_a_folder_of_something_else_is_left_alone(source, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter").write_text("dear")
    with pytest.raises(FileExistsError, match="holds other files"):
        encoded(tmp_path / "mine", source)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter"]


def test_a_manifest_that_cannot_be_read_is_refused(source, tmp_path):
    encoded(tmp_path / "store", source)
    (tmp_path / "store" / MANIFEST).write_text("{")
    with pytest.raises(DamagedStore, match=f"{MANIFEST} should say of what"):
        encoded(tmp_path / "store", source)


def test_a_file_without_trajectories_makes_an_empty_store(source, tmp_path):
    source.write_text("\n \n")
    assert len(encoded(tmp_path / "store", source)) == 0
