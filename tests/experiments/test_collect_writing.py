"""Whatever stops a collection, what was played is written."""

import pytest
from collect import WRITTEN_TOGETHER, write_together
from tiny_runs import trajectories

from agentprm_jax.actors import ConversationTooLong
from agentprm_jax.data.trajectory import TrajectoryWriter, read_trajectories

PLAYED = trajectories(WRITTEN_TOGETHER + 7)


def interrupted_by(error):
    yield from PLAYED
    raise error


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), ConversationTooLong([0], "too long"), RuntimeError("refused"), KeyError("a slip")]
)
def test_an_interrupted_collection_has_written_every_episode_that_had_ended(tmp_path, error):
    with pytest.raises(type(error)), TrajectoryWriter(tmp_path / "t.jsonl") as writer:
        write_together(writer, interrupted_by(error))
    assert read_trajectories(tmp_path / "t.jsonl") == PLAYED


def test_a_collection_that_ends_returns_what_it_has_written(tmp_path):
    with TrajectoryWriter(tmp_path / "t.jsonl") as writer:
        assert write_together(writer, iter(PLAYED)) == PLAYED
    assert read_trajectories(tmp_path / "t.jsonl") == PLAYED


def test_what_the_disk_refuses_is_not_sent_to_it_again():
    class Full:
        def __init__(self):
            self.sent = []

        def extend(self, batch):
            self.sent += batch
            raise OSError("no space")

    writer = Full()
    with pytest.raises(OSError, match="no space"):
        write_together(writer, iter(PLAYED))
    assert writer.sent == PLAYED[:WRITTEN_TOGETHER]
