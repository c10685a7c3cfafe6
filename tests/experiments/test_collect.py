"""Laws of the command that collects: what it writes whatever stops it, what it counts, and what it calls an actor."""

import pathlib

import msgspec
import pytest
from collect import WRITTEN_TOGETHER, actor_name, endings, tally, write_together
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


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("runs/actor/model", "actor"),
        ("runs/actor/model/", "actor"),
        ("model", "here"),
        ("", "here"),
        ("Qwen2.5-0.5B-Instruct", "Qwen2.5-0.5B-Instruct"),
        ("../here/Qwen2.5-0.5B-Instruct/.", "Qwen2.5-0.5B-Instruct"),
        ("files/SmolLM2-135M.q8_0.gguf", "SmolLM2-135M.q8_0"),
        ("model.gguf", "model"),
    ],
)
def test_an_actor_is_named_as_its_model_or_the_folder_of_a_model_that_training_wrote(
    tmp_path, monkeypatch, given, name
):
    here = tmp_path / "here"
    for folder in ("runs/actor/model", "model", "Qwen2.5-0.5B-Instruct", "files"):
        (here / folder).mkdir(parents=True)
    for file in ("files/SmolLM2-135M.q8_0.gguf", "model.gguf"):
        (here / file).touch()
    monkeypatch.chdir(here)
    assert actor_name(pathlib.Path(given)) == name
    assert actor_name(here / given) == name


def test_episodes_that_the_context_ended_are_counted_apart_from_those_at_the_round_limit():
    ends = [("terminated", {}), ("truncated", {}), ("truncated", {"ended_by": "context"})]
    ended = [msgspec.structs.replace(PLAYED[k % 5], ended=ends[k % 3][0], extra=ends[k % 3][1]) for k in range(5)]
    assert tally(ended)["episodes_outgrown"] == 1
    assert "5 trajectories, 2 of them ended by themselves, 2 at the round limit and 1 where" in endings(ended)
