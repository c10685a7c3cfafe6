"""Whatever stops a writer, the file holds whole lines and the next writer goes on behind them."""

import errno
import os
import pathlib
import resource
import signal
import subprocess
import sys
import textwrap

import pytest
from made_trajectories import trajectory

from agentprm_jax.data.trajectory import TrajectoryWriteError, TrajectoryWriter, read_trajectories
from agentprm_jax.data.writing import encode_line


def test_appended_trajectories_are_read_back_in_order(tmp_path):
    path = tmp_path / "some.jsonl"
    with TrajectoryWriter(path) as writer:
        writer.append(trajectory(name="0"))
        assert [item.id for item in read_trajectories(path)] == ["0"]
        writer.extend([trajectory(name="1"), trajectory(name="2")])
    with TrajectoryWriter(path) as writer:
        writer.append(trajectory(name="3"))
    assert [item.id for item in read_trajectories(path)] == ["0", "1", "2", "3"]


def test_a_file_cut_at_any_byte_keeps_all_complete_lines_and_takes_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # a thousand files need not outlive a power cut
    written = [trajectory(name=name, extra={"text": "ä\n\u2028"}) for name in ("0", "ä", "2")]
    lines = [encode_line(item) for item in written]
    ends = [sum(map(len, lines[: index + 1])) for index in range(3)]
    data, last = b"".join(lines), trajectory(name="next")
    path = tmp_path / "some.jsonl"
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        with TrajectoryWriter(path) as writer:
            writer.append(last)
        complete = sum(end - 1 <= size for end in ends)  # a line that lacks only its end is complete
        assert read_trajectories(path) == [*written[:complete], last]
        kept = sum(map(len, lines[:complete]))
        assert writer.removed == max(0, size - kept)


def test_a_torn_line_longer_than_a_block_is_removed_whole(tmp_path):
    path = tmp_path / "some.jsonl"
    long = encode_line(trajectory(extra={"text": "x" * 200_000}))
    path.write_bytes(encode_line(trajectory(name="0")) + long[:-10])
    with TrajectoryWriter(path) as writer:
        assert writer.removed == len(long) - 10
    assert [item.id for item in read_trajectories(path)] == ["0"]


def test_zeros_that_a_power_cut_left_are_removed(tmp_path):
    path = tmp_path / "some.jsonl"
    path.write_bytes(encode_line(trajectory(name="0")) + b"\0" * 4096)
    TrajectoryWriter(path).close()
    assert [item.id for item in read_trajectories(path)] == ["0"]


def test_a_file_of_something_else_is_left_alone(tmp_path):
    path = tmp_path / "some.jsonl"
    path.write_text("a diary, not trajectories")
    with pytest.raises(ValueError, match="is not the beginning of a JSON object"):
        TrajectoryWriter(path)
    assert path.read_text() == "a diary, not trajectories"


def test_only_plain_files_can_be_appended_to(tmp_path):
    with pytest.raises(ValueError, match=r"a \.jsonl file only"):
        TrajectoryWriter(tmp_path / "some.jsonl.gz")


def test_a_second_writer_is_refused_until_the_first_has_closed(tmp_path):
    path = tmp_path / "some.jsonl"
    with TrajectoryWriter(path), pytest.raises(TrajectoryWriteError, match="Another writer has the file open"):
        TrajectoryWriter(path)
    TrajectoryWriter(path).close()


def test_a_disk_that_is_full_costs_only_the_line_at_hand(tmp_path, monkeypatch):
    path = tmp_path / "some.jsonl"

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with TrajectoryWriter(path) as writer:
        writer.append(trajectory(name="0"))
        with monkeypatch.context() as disk:
            disk.setattr(os, "fsync", full)
            with pytest.raises(TrajectoryWriteError, match=r"No space left on device.*Make room") as error:
                writer.append(trajectory(name="1"))
        assert error.value.errno == errno.ENOSPC
        assert error.value.filename == str(path)
        assert [item.id for item in read_trajectories(path)] == ["0"]
        writer.append(trajectory(name="2"))
    assert [item.id for item in read_trajectories(path)] == ["0", "2"]


def test_a_write_that_stops_halfway_is_taken_back(tmp_path):
    path = tmp_path / "some.jsonl"
    first = encode_line(trajectory(name="0"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with TrajectoryWriter(path) as writer:
        writer.append(trajectory(name="0"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(first) + 40, limits[1]))
        try:
            with pytest.raises(TrajectoryWriteError, match="File too large"):
                writer.append(trajectory(name="1"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert path.read_bytes() == first


APPENDS_FOR_EVER = textwrap.dedent(
    """
    import itertools, sys
    from made_trajectories import trajectory
    from agentprm_jax.data.trajectory import TrajectoryWriter
    with TrajectoryWriter(sys.argv[1]) as writer:
        for number in itertools.count(int(sys.argv[2])):
            writer.append(trajectory(name=str(number), extra={"text": "x" * 20_000}))
            print(number, flush=True)
    """
)


def test_a_killed_writer_loses_nothing_that_it_had_appended(tmp_path):
    path = tmp_path / "some.jsonl"
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parent)}
    begin = 0
    for _ in range(3):
        command = [sys.executable, "-c", APPENDS_FOR_EVER, str(path), str(begin)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout is not None
            told = [int(process.stdout.readline()) for _ in range(15)]
            process.send_signal(signal.SIGKILL)
            told.extend(int(number) for number in process.stdout.read().split())
        read = read_trajectories(path, on_error="collect")
        begin = len(read)
        assert [item.id for item in read] == [str(number) for number in range(begin)]
        assert begin > told[-1]
        assert len(read.errors) <= 1
