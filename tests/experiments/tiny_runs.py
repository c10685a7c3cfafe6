"""A PRM training of seconds by the real command, for tests that interrupt it or spread it over processes."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np

from agentprm_jax.data import ChatEncoder, Message, Trajectory, word_tokenizer
from agentprm_jax.data.writing import write_trajectories
from agentprm_jax.models import DecoderConfig, init_language_model, save_pretrained

SCRIPT = pathlib.Path(__file__).parent.parent.parent / "experiments" / "train_prm.py"
WORDS = tuple("abcdefghijkl")


def make_inputs(folder):
    """Writes 40 random trajectories and a random language model to start from."""
    tokenizer = word_tokenizer(WORDS)
    write_trajectories(folder / "trajectories.jsonl", trajectories(40))
    config = DecoderConfig(
        vocab_size=ChatEncoder(tokenizer).vocab_size,
        embed=16,
        mlp=32,
        layers=2,
        heads=16,
        kv_heads=8,
        head_dim=4,
        rope_theta=1e4,
        norm_eps=1e-6,
        max_positions=64,
    )
    save_pretrained(folder / "init", config, init_language_model(config, jax.random.key(0)))
    tokenizer.save_pretrained(folder / "init")
    return folder


def trajectories(count):
    """Trajectories of one to three steps, two samples of each task."""
    rng = np.random.default_rng(0)

    def words(most):
        return " ".join(rng.choice(WORDS, int(rng.integers(1, most))))

    made = []
    for number in range(count):
        messages = []
        for _ in range(int(rng.integers(1, 4))):
            messages += [Message("user", words(5)), Message("assistant", words(3), action=True)]
        outcome = float(rng.random())
        rewards = [0.0] * (len(messages) // 2 - 1) + [outcome]
        made.append(
            Trajectory(
                id=f"t{number}",
                env="made",
                task=f"task{number // 2}",
                split="train",
                messages=messages,
                rewards=rewards,
                outcome=outcome,
                ended="terminated",
            )
        )
    return made


def command(inputs, output, *more, script=SCRIPT):
    """The command line; `more` overrides."""
    given = {"trajectories": inputs / "trajectories.jsonl", "init": inputs / "init", "output": output}
    loop = {"steps": 20, "rows-per-batch": 8, "checkpoint-every": 10, "log-every": 1}
    options = given | {f"loop.{name}": value for name, value in loop.items()}
    options |= {"row-length": 32, "optimizer.learning-rate": 1e-2, "optimizer.eps": 1e-3}
    flat = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    return [sys.executable, str(script), *flat, *(str(part) for part in more)]


def environment(devices=1):
    """Variables of a process with so many fake devices."""
    return os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}


def start(line, log, variables):
    """Starts a command whose output goes to a file."""
    with log.open("w") as file:
        return subprocess.Popen(line, stdout=file, stderr=file, env=variables)


def free_port():
    """A port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def metrics(output):
    """The whole rows of metrics.jsonl so far."""
    path = output / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def reported(output):
    """How many updates metrics.jsonl holds."""
    path = output / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def newest_checkpoint(output):
    """Step of the newest whole checkpoint, or 0."""
    found = (output / "checkpoints").glob("*/_CHECKPOINT_METADATA")
    return max((int(path.parent.name) for path in found if path.parent.name.isdigit()), default=0)
