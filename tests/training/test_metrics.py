import errno
import io
import json
import os

import pytest
from rich.console import Console
from tensorboardX.proto import event_pb2

from agentprm_jax.training.console import LastingConsole
from agentprm_jax.training.metrics import ConsoleProgress, JsonLinesWriter, TensorBoardWriter


def rows(first, last):
    return [{"step": step, "loss": 1.0 / step, "tokens": 100} for step in range(first, last + 1)]


def steps_in(path):
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_a_resumed_file_has_every_step_once_and_the_bytes_of_an_uninterrupted_one(tmp_path):
    whole, resumed = tmp_path / "whole.jsonl", tmp_path / "resumed.jsonl"
    writer = JsonLinesWriter(whole, 0)
    writer.write(rows(1, 9))
    writer.close()
    first = JsonLinesWriter(resumed, 0)
    first.write(rows(1, 6))
    first.close()
    second = JsonLinesWriter(resumed, 4)
    second.write(rows(5, 9))
    second.close()
    assert resumed.read_bytes() == whole.read_bytes()


def test_a_torn_last_line_is_dropped(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3, "lo')
    JsonLinesWriter(path, 2).close()
    assert steps_in(path) == [1, 2]


def test_a_run_from_the_start_begins_a_new_file(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 1}\n')
    JsonLinesWriter(path, 0).close()
    assert path.read_text() == ""


def test_lines_are_on_the_disk_when_write_returns(tmp_path):
    writer = JsonLinesWriter(tmp_path / "m.jsonl", 0)
    writer.write(rows(1, 2))
    assert steps_in(tmp_path / "m.jsonl") == [1, 2]
    writer.close()


def test_a_full_disk_is_answered_with_the_file_and_what_to_do(tmp_path, monkeypatch):
    writer = JsonLinesWriter(tmp_path / "m.jsonl", 0)

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"m\.jsonl: No space left on device\. Make room"):
        writer.write(rows(1, 1))
    writer.close()


def scalars(directory):
    """(step, name) of every scalar in the event files, in order."""
    found = []
    for path in sorted(directory.iterdir()):
        data = path.read_bytes()
        while data:
            size = int.from_bytes(data[:8], "little")
            event = event_pb2.Event.FromString(data[12 : 12 + size])
            found += [(event.step, value.tag) for value in event.summary.value]
            data = data[12 + size + 4 :]
    return found


def test_tensorboard_gets_every_field_at_every_due_step(tmp_path):
    writer = TensorBoardWriter(tmp_path, 0, every=2)
    writer.write(rows(1, 5))
    writer.close()
    assert sorted(scalars(tmp_path)) == [(2, "loss"), (2, "tokens"), (4, "loss"), (4, "tokens")]


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def progress(terminal, total=100):
    out, clock = io.StringIO(), Clock()
    console = Console(file=out, force_terminal=terminal, width=200)
    return ConsoleProgress(total, console=console, clock=clock, label="prm"), clock, out


def test_what_is_not_a_terminal_gets_a_line_every_ten_seconds_and_one_at_the_end():
    shown, clock, out = progress(terminal=False)
    for step in range(1, 101):
        clock.now = step * 0.5
        shown.write(rows(step, step))
    shown.close()
    lines = out.getvalue().splitlines()
    assert [line.split()[2] for line in lines] == ["1/100", "21/100", "41/100", "61/100", "81/100", "100/100"]
    assert "\x1b" not in out.getvalue()


def test_speed_and_remaining_time_do_not_count_what_came_before_the_first_report():
    shown, clock, out = progress(terminal=False)
    clock.now = 60.0  # compilation
    shown.write(rows(1, 10))
    clock.now = 80.0
    shown.write(rows(11, 50))
    first, second = out.getvalue().splitlines()
    assert "tokens/s" not in first
    assert "200 tokens/s  0:25 left" in second


def test_a_terminal_gets_a_bar():
    shown, clock, out = progress(terminal=True)
    for step in (10, 20):
        clock.now += 1.0
        shown.write(rows(step - 9, step))
    shown.close()
    assert "20/100" in out.getvalue()
    assert "1,000 tokens/s" in out.getvalue()


def test_a_console_whose_reader_has_gone_lets_the_run_go_on():
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as file:
        console = LastingConsole(file=file)
        console.print("nobody reads this")
        console.print("nor this")
        assert console.quiet
