"""A run's trajectories are encoded with a progress bar by the first process, and found by the next."""

import jax
import pytest

from agentprm_jax.data import (
    BadLine,
    ChatEncoder,
    Message,
    Trajectory,
    claim_store,
    encode_share,
    word_tokenizer,
    write_trajectories,
)
from agentprm_jax.reporting.encoding import encode_together

ENCODER = ChatEncoder(word_tokenizer(("a", "b")))


@pytest.fixture
def source(tmp_path):
    made = [
        Trajectory(
            id=f"t{number}",
            env="made",
            task="task",
            split="train",
            messages=[Message("user", "a"), Message("assistant", "b", action=True)],
            rewards=[1.0],
            ended="terminated",
        )
        for number in range(3)
    ]
    write_trajectories(tmp_path / "made.jsonl", made)
    return tmp_path / "made.jsonl"


def test_the_first_process_encodes_and_the_next_finds_the_same(source, tmp_path, capsys):
    first = encode_together(tmp_path / "encoded", source, ENCODER, "actions")
    assert "encoding made.jsonl: 3/3" in capsys.readouterr().err
    again = encode_together(tmp_path / "encoded", source, ENCODER, "actions")
    assert "made.jsonl" not in capsys.readouterr().err
    assert first.digest == again.digest
    assert [one.encoded.id for one in again.read([0, 1, 2])] == ["t0", "t1", "t2"]


def test_another_process_than_the_first_encodes_in_silence(source, tmp_path, capsys, monkeypatch):
    folder, settings = tmp_path / "encoded", {"watch": lambda items, *_: iter(items)}
    claim_store(folder, source, ENCODER, "actions", block=1, **settings)
    encode_share(folder, source, ENCODER, part=0, parts=3, **settings)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    assert len(encode_together(folder, source, ENCODER, "actions")) == 3
    assert capsys.readouterr().err == ""


def test_a_bad_line_is_answered_as_where_it_is_read(source, tmp_path):
    source.write_bytes(source.read_bytes() + b"{}\n")
    with pytest.raises(BadLine, match="line 4, field `schema`"):
        encode_together(tmp_path / "encoded", source, ENCODER, "actions")
