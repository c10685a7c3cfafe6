"""What an actor spends is added up, whatever interrupts it."""

import errno
import os

import pytest
from made_pool import trajectory

from agentprm_jax.actors.base import Usage
from agentprm_jax.data.trajectory import TrajectoryWriter
from agentprm_jax.reporting.spending import accounted, read_account


class Spender:
    """Has spent something before, as an actor that has played another collection."""

    name = "spender"
    usage = Usage(100, 100, 100)

    def spend(self, *counts):
        self.usage = Usage(*(old + new for old, new in zip(self.usage, counts, strict=True)))


def play_until(error, actor, path, number=0):
    with TrajectoryWriter(path) as writer, accounted(actor, path):
        writer.append(trajectory("made_0", number, ["go"], 1.0, tokens=7))
        actor.spend(20, 9, 5)
        raise error


def test_what_two_interrupted_runs_have_spent_is_added_up_and_what_no_trajectory_holds_is_wasted(tmp_path):
    actor, path = Spender(), tmp_path / "t.jsonl"
    for number in range(2):
        with pytest.raises(KeyboardInterrupt):
            play_until(KeyboardInterrupt, actor, path, number)
    assert read_account(tmp_path) == {"tokens_read": 40, "tokens_cached": 10, "tokens_wasted": 2 * (9 - 7)}


def test_what_a_full_disk_says_of_trajectories_is_not_replaced_by_what_it_says_of_the_account(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("agentprm_jax.reporting.spending.write_record", full)
    with pytest.raises(OSError, match="Writing trajectories failed"):
        play_until(OSError(errno.ENOSPC, "Writing trajectories failed. Make room"), Spender(), tmp_path / "t.jsonl")


def test_where_nothing_was_spent_there_is_no_account(tmp_path):
    with TrajectoryWriter(tmp_path / "t.jsonl"), accounted(Spender(), tmp_path / "t.jsonl"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["t.jsonl"]
    assert read_account(tmp_path) == {}
