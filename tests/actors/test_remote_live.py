"""The remote actor and a real server: `transformers serve` with a model that this package has written."""

import contextlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from agentprm_jax.actors import NativeSampler, RemoteActor, RemoteConfig, SamplerConfig
from agentprm_jax.commands import import_model
from agentprm_jax.commands.import_model import ImportConfig
from agentprm_jax.data import Message
from agentprm_jax.data.tokenizer_files import load_encoder
from agentprm_jax.envs import make_env, task_ids
from agentprm_jax.models import load_pretrained, save_pretrained
from agentprm_jax.search import collect
from tests.smollm2 import QUESTIONS, gguf_path

pytestmark = [pytest.mark.torch, pytest.mark.slow]
TOKENS = 24
SERVE = "from transformers.cli.transformers import main; main()"


def write_model(folder, tiny):
    """A folder as any server loads it; the tokens that the native sampler never says are suppressed."""
    save_pretrained(folder, tiny.config, tiny.params)
    tokenizer = tiny.encoder.tokenizer
    tokenizer.save_pretrained(folder)
    sampling = {
        "do_sample": True,
        "top_k": 0,
        "eos_token_id": tiny.encoder.end_of_turn_id,
        "pad_token_id": tokenizer.pad_token_id,
        "suppress_tokens": tokenizer.convert_tokens_to_ids(["<pad>", "<unk>"]),
    }
    (folder / "generation_config.json").write_text(json.dumps(sampling))


def wait_until_healthy(port, process, log):
    for _ in range(600):
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).read()
        assert process.poll() is None, log.read_text()[-3000:]
        time.sleep(0.2)
    raise AssertionError(f"The server did not start within 120 s: {log.read_text()[-3000:]}")


@contextlib.contextmanager
def serving(model, log):
    """An actor of a server that runs the model of a folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    command = [sys.executable, "-c", SERVE, "serve", str(model), *options]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=output, env=offline) as process:
        try:
            wait_until_healthy(port, process, log)
            # One request at a time: this server's seed is one of the process, not of the request.
            config = RemoteConfig(model=str(model), base_url=f"http://127.0.0.1:{port}/v1", concurrency=1)
            with contextlib.closing(RemoteActor(config)) as made:
                yield made
        finally:
            process.send_signal(signal.SIGTERM)


@pytest.fixture(scope="module")
def remote(actor, tmp_path_factory):
    """An actor of a server that runs the same model as `actor`."""
    folder = tmp_path_factory.mktemp("served")
    write_model(folder / "model", actor)
    with serving(folder / "model", folder / "log") as made:
        yield made


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory):
    """SmolLM2-135M-Instruct as `agentprm import` writes it: on a server, and in the native sampler."""
    folder = tmp_path_factory.mktemp("smollm2")
    import_model.main(ImportConfig(gguf_path(), folder / "model"))
    config, params = load_pretrained(folder / "model")
    encoder = load_encoder(folder / "model", vocab_size=config.vocab_size)
    sizes = SamplerConfig(slots=8, rows=8, capacity=256, max_tokens=TOKENS, prefill_lengths=(64, 128))
    with serving(folder / "model", folder / "log") as made:
        yield made, NativeSampler(config, params, encoder, sizes)


def test_greedy_actions_over_the_wire_are_those_of_the_native_sampler(remote, actor, conversations):
    talks = conversations(8)
    native = actor.sampler().act(talks, temperature=0.0, max_tokens=8)
    given = remote.act(talks, temperature=0.0, max_tokens=8)
    assert [[action.text for action in actions] for actions in given] == [[a.text for a in own] for own in native]
    assert [[action.tokens for action in actions] for actions in given] == [[a.tokens for a in own] for own in native]
    assert all(math.isnan(action.logprob) for actions in given for action in actions)


def test_samples_are_a_function_of_the_seed_although_the_server_gives_one_choice_a_request(remote, conversations):
    talks = conversations(3)
    first, again, other = (remote.act(talks, samples=4, temperature=2.0, seed=seed, max_tokens=8) for seed in (1, 1, 2))
    texts = [[[action.text for action in actions] for actions in answers] for answers in (first, again, other)]
    assert texts[0] == texts[1] != texts[2]
    assert any(len(set(own)) > 1 for own in texts[0])


def test_tokens_of_prompts_and_actions_are_counted_as_the_tokenizer_counts_them(remote, actor, conversations):
    talks = conversations(4)
    before = remote.usage
    given = remote.act(talks, seed=5, max_tokens=8)
    after = remote.usage
    assert after.prompt_tokens - before.prompt_tokens == sum(len(actor.encoder.prompt_tokens(talk)) for talk in talks)
    assert after.sampled_tokens - before.sampled_tokens == sum(action.tokens for own in given for action in own)


def test_smollm2_behind_a_server_says_what_it_says_in_the_native_sampler(smollm2):
    remote, native = smollm2
    talks = [[Message("user", question)] for question in QUESTIONS[:4]]
    given, own = (actor.act(talks, temperature=0.0, max_tokens=TOKENS) for actor in (remote, native))
    assert [[(a.text, a.tokens) for a in actions] for actions in given] == [
        [(a.text, a.tokens) for a in actions] for actions in own
    ]


def test_smollm2_behind_a_server_plays_the_episodes_that_it_plays_in_the_native_sampler(smollm2):
    played = [
        list(
            collect(
                task_ids("textcraft", "test")[:2],
                make_environment=lambda: make_env("textcraft", text="compact", form="declared", max_rounds=2),
                actor=actor,
                samples=1,
                temperature=0.0,
                seed=0,
                max_tokens=TOKENS,
            )
        )
        for actor in smollm2
    ]
    messages = [{t.task: t.messages for t in trajectories} for trajectories in played]
    assert messages[0] == messages[1]
    assert all(t.actor.sampled_tokens > 0 for t in played[0])
