"""Collecting from a server that fails: what is written, what is said, and how it goes on."""

import json
import pathlib
import subprocess
import sys

import pytest

from agentprm_jax.data import read_trajectories
from tests.chat_server import CACHED_TOKENS, PROMPT_TOKENS, TOKENS, Reply, completion, failed

SCRIPT = pathlib.Path(__file__).parent.parent.parent / "experiments" / "collect.py"
SETTINGS = ["--environment.name", "textcraft", "--tasks.split", "test", "--tasks.count", "4", "--samples", "2"]
QUICK = ["--remote.retries", "1", "--remote.first-wait", "0", "--attempts", "2", "--remote.model", "m"]


@pytest.fixture
def collect(chat_server, tmp_path):
    """Runs the command on the server; returns how it ended and the trajectories by id."""

    def run(*options):
        command = [
            sys.executable,
            str(SCRIPT),
            "--actor",
            "remote",
            "--output",
            str(tmp_path / "o"),
        ]
        address = ["--remote.base-url", chat_server.url]
        done = subprocess.run([*command, *SETTINGS, *QUICK, *address, *options], capture_output=True, text=True)
        path = tmp_path / "o" / "trajectories.jsonl"
        return done, {t.id: t for t in read_trajectories(path)} if path.exists() else {}

    return run


def finish(request):
    return Reply(completion("finish"))


def to_the_first(server, reply):
    """Gives this reply to the first request that came, however often it comes, and answers all others."""
    return lambda request: reply if request["seed"] == server.requests[0]["seed"] else finish(request)


def test_failed_requests_cost_their_own_episodes_and_a_second_run_collects_them(collect, chat_server):
    chat_server.usual = to_the_first(chat_server, failed(500, "out of memory"))
    done, found = collect()
    assert done.returncode != 0
    assert "1 episodes were left out after 2 attempts each" in done.stderr
    assert "out of memory" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(found) == 7
    assert len(chat_server.requests) == 7 + 2 * 2

    chat_server.usual = finish
    done, whole = collect("--remote.concurrency", "2")
    assert done.returncode == 0, done.stderr
    assert len(whole) == 8
    assert found.items() <= whole.items()
    assert len(chat_server.requests) == 7 + 2 * 2 + 1
    assert all(t.actor.name == "m" and t.actor.sampled_tokens == 3 for t in whole.values())


def test_the_stage_record_holds_what_all_runs_have_spent_the_useless_answers_included(collect, chat_server, tmp_path):
    chat_server.usual = to_the_first(chat_server, Reply(completion("finish", finish="content_filter")))
    done, found = collect("--attempts", "1")
    assert (done.returncode, len(found)) == (1, 7), done.stderr
    chat_server.usual = finish
    done, found = collect()
    assert done.returncode == 0, done.stderr
    assert all(t.actor.prompt_tokens == PROMPT_TOKENS for t in found.values())
    assert "8 trajectories, 8 of them ended by themselves" in done.stderr
    stage = json.loads((tmp_path / "o" / "stage.json").read_text())
    names = ("tokens_read", "tokens_cached", "tokens_sampled", "tokens_wasted", "episodes_outgrown")
    expected = (10 * (PROMPT_TOKENS - CACHED_TOKENS), 10 * CACHED_TOKENS, 8 * TOKENS, 2 * TOKENS, 0)
    assert tuple(stage[name] for name in names) == expected


def test_actions_that_the_token_limit_cut_off_are_marked_counted_and_told(collect, chat_server, tmp_path):
    counts = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": 1}
    chat_server.usual = lambda request: Reply(completion("finish", finish="length", usage=counts))
    done, found = collect("--max-tokens", "1")
    assert done.returncode == 0, done.stderr
    assert all(t.action_cut == (True,) * len(t.actions) for t in found.values())
    actions = sum(len(t.actions) for t in found.values())
    assert f"max_tokens cut off {actions} of {actions} actions" in " ".join(done.stderr.split())
    assert json.loads((tmp_path / "o" / "stage.json").read_text())["actions_cut"] == actions


def test_a_key_that_expires_stops_the_collection_and_what_was_finished_is_kept(collect, chat_server):
    chat_server.script = [finish(None)] * 3
    chat_server.usual = lambda request: failed(401, "expired")
    settings = ("--tasks.count", "12", "--samples", "1")
    done, found = collect(*settings, "--remote.concurrency", "2")
    assert done.returncode != 0
    assert "ActorRefused" in done.stderr
    assert "what was finished is kept" in " ".join(done.stderr.split())
    assert len(found) == 3
    assert len(chat_server.requests) < 3 + 9 * 2
    chat_server.usual = finish
    done, whole = collect(*settings)
    assert done.returncode == 0, done.stderr
    assert len(whole) == 12
    assert found.items() <= whole.items()


def test_a_server_that_refuses_the_key_is_answered_in_one_paragraph_and_leaves_the_folder_free(collect, chat_server):
    chat_server.usual = lambda request: failed(401, "wrong key")
    done, found = collect()
    assert done.returncode != 0
    assert "ActorRefused" in done.stderr
    assert "OPENAI_API_KEY" in done.stderr
    assert "Traceback" not in done.stderr
    assert found == {}

    chat_server.usual = finish
    done, found = collect("--remote.model", "another")
    assert done.returncode == 0, done.stderr
    assert {t.actor.name for t in found.values()} == {"another"}
