"""Replays recorded exchanges with AgentGym's BabyAI server; every field has to be equal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agentprm_jax.envs import make_env

RECORDED = Path(__file__).parents[1] / "recorded" / "agentgym"


def exchanges(name):
    rows = map(json.loads, (RECORDED / name).read_text().splitlines())
    return [row for row in rows if row["path"] in ("/reset", "/step") and row["status"] == 200]


@pytest.mark.parametrize(("name", "count"), [("babyai_play.jsonl", 254), ("babyai_protocol.jsonl", 10)])
def test_every_recorded_reset_and_step_is_answered_with_equal_fields(name, count):
    env = make_env("babyai")
    compared = 0
    for row in exchanges(name):
        request, expected = row["request"], row["response"]
        if "error" in expected:
            continue
        got = env.reset(f"babyai_{request['data_idx']}") if row["path"] == "/reset" else env.step(request["action"])
        assert got.text == expected["observation"]
        assert {key: got.info[key] for key in ("reward", "score", "done")} == {
            key: expected[key] for key in ("reward", "score", "done")
        }
        assert got.terminated == expected["done"]
        compared += 1
    assert compared == count


def test_the_recorded_error_for_a_negative_index_is_part_of_ours():
    (error,) = {
        row["response"]["error"] for row in exchanges("babyai_protocol.jsonl") if row["request"].get("data_idx") == -1
    }
    with pytest.raises(ValueError, match=error):
        make_env("babyai").reset("babyai_-1")
