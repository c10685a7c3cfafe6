"""Trajectories come back from files as they were written; bad lines are named and nothing else is lost."""

import gzip
import json
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_trajectories import trajectories, trajectory

from agentprm_jax.data.reading import SUFFIXES, parse_line
from agentprm_jax.data.trajectory import (
    BadLine,
    TrajectoryWriteError,
    iterate_trajectories,
    read_trajectories,
    write_trajectories,
)
from agentprm_jax.data.writing import encode_line, whole_folder

anywhere = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)


def line(**changes) -> dict:
    """A good line as an object, with some of its values changed."""
    return {**json.loads(encode_line(trajectory(steps=2))), **changes}


@anywhere
@given(st.lists(trajectories(), max_size=3), st.sampled_from(SUFFIXES))
def test_writing_and_reading_gives_the_same_trajectories(tmp_path, written, suffix):
    path = tmp_path / f"some{suffix}"
    assert write_trajectories(path, written) == len(written)
    assert read_trajectories(path) == written


@anywhere
@given(st.floats(0.0, 1.0, allow_subnormal=True))
def test_floats_keep_every_bit(tmp_path, outcome):
    write_trajectories(tmp_path / "some.jsonl", [trajectory(outcome=outcome)])
    (back,) = read_trajectories(tmp_path / "some.jsonl")
    assert back.outcome.hex() == back.rewards[-1].hex() == outcome.hex()


def test_equal_trajectories_make_equal_files(tmp_path):
    for suffix in SUFFIXES:
        for name in "ab":
            write_trajectories(tmp_path / f"{name}{suffix}", [trajectory()])
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_unknown_keys_are_kept_in_the_extra_of_their_level(tmp_path):
    told = line(model="m-1", extra={"note": 1}, actor={"name": "a", "engine": "x"})
    told["messages"][1]["logprob"] = -0.5
    told["scores"] = {"prm": {"promise": [0.1, 0.2], "progress": [0.0, 0.1], "version": 3}}
    (tmp_path / "in.jsonl").write_text(json.dumps(told))
    (kept,) = read_trajectories(tmp_path / "in.jsonl")
    assert kept.extra == {"note": 1, "model": "m-1"}
    assert kept.messages[1].extra == {"logprob": -0.5}
    assert kept.actor.extra == {"engine": "x"}
    assert kept.scores["prm"].extra == {"version": 3}
    write_trajectories(tmp_path / "out.jsonl", [kept])
    assert read_trajectories(tmp_path / "out.jsonl") == [kept]


def test_outcome_and_success_may_be_left_out_of_a_line(tmp_path):
    short = {key: value for key, value in line().items() if key not in ("outcome", "success")}
    (tmp_path / "in.jsonl").write_text(json.dumps(short))
    assert read_trajectories(tmp_path / "in.jsonl") == [trajectory(steps=2)]


DEEP = json.loads("[" * 600 + "]" * 600)
BAD = {
    "not JSON": ("{", ""),
    "an empty object": ("{}", "schema"),
    "a list": ("[]", ""),
    "another schema": (json.dumps(line(schema="agentprm.trajectory/2")), "schema"),
    "no id": (json.dumps({k: v for k, v in line().items() if k != "id"}), "id"),
    "a number for an id": (json.dumps(line(id=3)), "id"),
    "no list of messages": (json.dumps(line(messages="hello")), "messages"),
    "an unknown role": (json.dumps(line(messages=[{"role": "tool", "content": ""}])), "messages[0].role"),
    "a message without content": (json.dumps(line(messages=[{"role": "user"}])), "messages[0].content"),
    "a word for the action flag": (
        json.dumps(line(messages=[{"role": "assistant", "content": "", "action": "yes"}])),
        "messages[0].action",
    ),
    "a user who acts": (
        json.dumps(line(messages=[{"role": "user", "content": "", "action": True}])),
        "messages[0].action",
    ),
    "a reward too few": (json.dumps(line(rewards=[1.0])), "rewards"),
    "a word for a reward": (json.dumps(line(rewards=[0.0, "1"])), "rewards[1]"),
    "NaN": (json.dumps(line(rewards=[0.0, float("nan")])), ""),
    "a number past the largest float": (json.dumps(line()).replace("[0.0, 1.0]", "[0.0, 1e999]"), "rewards[1]"),
    "an infinite number among the unknown": (json.dumps(line()).replace("{", '{"more": 1e999, ', 1), "extra.more"),
    "an outcome above 1": (json.dumps(line(outcome=1.25)), "outcome"),
    "no outcome": (json.dumps(line(outcome=None)), "outcome"),
    "another ending": (json.dumps(line(ended="done")), "ended"),
    "a negative token count": (json.dumps(line(actor={"name": "a", "prompt_tokens": -1})), "actor.prompt_tokens"),
    "an actor who is a word": (json.dumps(line(actor="me")), "actor"),
    "scores of another length": (
        json.dumps(line(scores={"prm": {"promise": [0.5], "progress": [0.5]}})),
        "scores.prm.promise",
    ),
    "an extra that is no object": (json.dumps(line(extra=3)), "extra"),
    "a key at two levels": (json.dumps(line(model=1, extra={"model": 2})), "model"),
    "a key that stands twice": ('{"id": "a", "id": "b"}', ""),
    "a surrogate": (json.dumps(line(id="\ud800")), "id"),
    "nesting without end": ("[" * 200_000, ""),
    "deep nesting in the extra": (json.dumps(line(extra={"more": DEEP})), "extra"),
    "deep nesting among the unknown": (json.dumps(line(more=DEEP)), "extra"),
    "deep nesting in a message": (
        json.dumps(line(messages=[{"role": "user", "content": "", "more": DEEP}])),
        "messages[0].extra",
    ),
    "deep nesting in the actor": (json.dumps(line(actor={"name": "a", "more": DEEP})), "actor.extra"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_line_is_refused_with_file_line_and_field(tmp_path, kind):
    text, field = BAD[kind]
    path = tmp_path / "some.jsonl"
    path.write_text(f"{json.dumps(line())}\n{text}\n")
    with pytest.raises(BadLine) as error:
        read_trajectories(path)
    assert (error.value.path, error.value.line, error.value.field) == (path, 2, field)
    assert f"{path}, line 2" in str(error.value)
    assert f"expected {error.value.expected}, got {error.value.got}" in str(error.value)


def test_bytes_that_are_not_utf8_are_refused(tmp_path):
    (tmp_path / "some.jsonl").write_bytes(json.dumps(line(id="ä"), ensure_ascii=False).encode("latin-1") + b"\n")
    with pytest.raises(BadLine, match=r"UTF-8.*0xe4"):
        read_trajectories(tmp_path / "some.jsonl")


def test_collecting_errors_loses_no_good_line(tmp_path):
    good = [trajectory(name=str(index)) for index in range(3)]
    lines = [encode_line(item).decode() for item in good]
    path = tmp_path / "some.jsonl"
    deep = json.dumps(line(more=DEEP))
    path.write_text(f"{lines[0]}oops\n{lines[1]}\n{{}}\n{deep}\n" + lines[2].rstrip("\n"))
    read = read_trajectories(path, on_error="collect")
    assert read == good
    assert [error.line for error in read.errors] == [2, 5, 6]


def test_an_unknown_way_to_treat_errors_is_refused(tmp_path):
    with pytest.raises(ValueError, match="on_error"):
        read_trajectories(tmp_path / "some.jsonl", on_error="ignore")


def test_line_separators_inside_a_text_do_not_end_the_line(tmp_path):
    written = [trajectory(name="a\u2028b\u0085c\r\n")]
    write_trajectories(tmp_path / "some.jsonl", written)
    assert read_trajectories(tmp_path / "some.jsonl") == written


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst"])
def test_a_compressed_file_that_breaks_off_is_an_error_wherever_it_breaks(tmp_path, suffix):
    whole = tmp_path / f"whole{suffix}"
    written = [trajectory(name=str(index)) for index in range(20)]
    write_trajectories(whole, written)
    data = whole.read_bytes()
    cut = tmp_path / f"cut{suffix}"
    for size in range(1, len(data)):
        cut.write_bytes(data[:size])
        with pytest.raises(BadLine):
            read_trajectories(cut)
        read = read_trajectories(cut, on_error="collect")
        assert read == written[: len(read)]
        assert read.errors


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip.compress), (".zst", zstandard.compress)])
def test_compressed_files_put_one_after_another_are_read_to_the_end(tmp_path, suffix, compress):
    written = [trajectory(name=str(index)) for index in range(2)]
    data = [encode_line(item) for item in written]
    halves = [data[0] + data[1][:30], data[1][30:]]
    path = tmp_path / f"some.jsonl{suffix}"
    path.write_bytes(b"".join(compress(half) for half in halves))
    assert read_trajectories(path) == written


def test_a_compressed_file_of_something_else_is_refused(tmp_path):
    for suffix in (".jsonl.gz", ".jsonl.zst"):
        (tmp_path / f"some{suffix}").write_bytes(b"plain text")
        with pytest.raises(BadLine, match="a complete compressed file"):
            read_trajectories(tmp_path / f"some{suffix}")


def test_other_file_names_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\.jsonl\.zst, got .*some\.json\."):
        read_trajectories(tmp_path / "some.json")
    with pytest.raises(ValueError, match=r"\.jsonl\.zst"):
        write_trajectories(tmp_path / "some.json", [])


def test_a_file_is_replaced_only_when_the_new_one_is_whole(tmp_path):
    path = tmp_path / "some.jsonl"
    write_trajectories(path, [trajectory(name="old")])

    def interrupted():
        yield trajectory(name="new")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_trajectories(path, interrupted())
    assert [item.id for item in read_trajectories(path)] == ["old"]
    assert [item.name for item in tmp_path.iterdir()] == ["some.jsonl"]


def test_a_folder_is_replaced_only_when_the_new_one_is_whole(tmp_path):
    folder = tmp_path / "some"
    folder.mkdir()
    (folder / "old").touch()
    with pytest.raises(KeyboardInterrupt), whole_folder(folder, Path.is_dir):
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.rglob("*")] == ["some", "old"]
    with whole_folder(folder, Path.is_dir) as new:
        (new / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["some", "new"]


def test_a_folder_stays_when_the_new_one_cannot_take_its_name(tmp_path, monkeypatch):
    folder = tmp_path / "some"
    folder.mkdir()
    (folder / "old").touch()
    rename = Path.rename

    def interrupted(path, target):
        if path.name.endswith(".partial"):
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), whole_folder(folder, Path.is_dir) as new:
        (new / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["some", "old"]


def test_a_folder_that_got_something_else_while_the_new_one_was_made_stays(tmp_path):
    folder = tmp_path / "some"
    folder.mkdir()
    with (
        pytest.raises(FileExistsError, match="should not be there yet"),
        whole_folder(folder, lambda there: not list(there.iterdir())),
    ):
        (folder / "mine").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["some", "mine"]


def test_writing_into_a_missing_folder_says_so(tmp_path):
    with pytest.raises(TrajectoryWriteError, match=r"No such file or directory.*run the same command again"):
        write_trajectories(tmp_path / "missing" / "some.jsonl", [trajectory()])


def test_reading_one_at_a_time_does_not_read_ahead_of_an_error(tmp_path):
    path = tmp_path / "some.jsonl"
    path.write_bytes(encode_line(trajectory(name="good")) + b"oops\n")
    reader = iterate_trajectories(path)
    assert next(reader).id == "good"
    with pytest.raises(BadLine, match="line 2"):
        next(reader)


@anywhere
@given(st.binary(max_size=40))
def test_any_bytes_are_a_trajectory_or_a_bad_line(tmp_path, data):
    with pytest.raises(BadLine):
        parse_line(data, tmp_path, 1)


@anywhere
@given(st.data())
def test_a_line_with_a_piece_missing_is_refused(tmp_path, data):
    whole = encode_line(trajectory(steps=1)).rstrip()
    start = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(BadLine):
        parse_line(whole[:start], tmp_path, 1)
