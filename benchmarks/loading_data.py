"""Memory and speed of the input of a training run: a file of five million steps is encoded, then shown for an epoch.

Command:

    uv run benchmarks/loading_data.py

Writes a file of random trajectories (five million steps take 4 GB of disk with what is made of them, under
`--folder`; all is removed at the end), encodes it in one process and iterates over an epoch of it in another, by the
functions that the training commands use, one thread each. Memory is the peak of all resident memory of the process
(VmHWM), of which the interpreter and the libraries are a part that is printed as well. Speed counts tokens that are
no padding: of a file in the page cache and, apart, of one that must come from the disk; per second by the clock and,
since other work on the machine slows that down, per second of the processor.

It is held against what the fastest training step of a 0.5B model on one H100 could consume: a PRM on Qwen2.5-0.5B,
whose embedding is only looked up, at 6 flops per weight of its layers and token, attention left out, at half of the 989
TFLOP/s that the card is sold with for bfloat16.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from goals import RUNS, Goal, goals_table, write_goals
from loading import memory

GB, MIB = 1e9, 2**20
MOST_MEMORY = 1024 * MIB
LEAST_RATIO = 10.0
H100_FLOPS, UTILISATION = 989e12, 0.5
WEIGHTS_OF_LAYERS = 24 * (2 * 896 * 896 + 2 * 896 * 128 + 3 * 896 * 4864)
"""Of Qwen2.5-0.5B: queries and outputs, keys and values, and the feed-forward layer."""
CONSUMED = UTILISATION * H100_FLOPS / (6 * WEIGHTS_OF_LAYERS)
"""Tokens a second that one H100 trains on."""


@dataclass(frozen=True)
class LoadingDataConfig:
    """Settings of the measurement."""

    steps: int = 5_000_000
    """Steps of the generated data set."""
    row_length: int = 4096
    """Tokens of a packed row."""
    rows_per_batch: int = 16
    """Rows of a batch."""
    cold_batches: int = 300
    """Batches that are read once more after the page cache has let go of the store."""
    folder: Path = Path(tempfile.gettempdir())
    """Where the data set and its store lie while they are needed."""
    seed: int = 0
    """Of the data and their order."""
    output: Path = RUNS / "loading_data"
    """Folder of goals.json."""
    part: str | None = None
    """Only do this part in `folder` and print what it took, as JSON; the command starts itself with it."""


def main(config: LoadingDataConfig) -> None:
    """Generates, encodes and iterates, each in a process of its own, and prints."""
    if config.part is not None:
        print(json.dumps(PARTS[config.part](config)))
        return
    with tempfile.TemporaryDirectory(prefix="agentprm-loading-", dir=config.folder) as folder:
        generate, encode, iterate = (in_process(config, Path(folder), part) for part in PARTS)
    print(
        f"data: {generate['steps']:,} steps in {generate['trajectories']:,} trajectories, a file of "
        f"{generate['bytes'] / GB:.2f} GB; encoded {encode['tokens']:,} tokens, {encode['bytes'] / GB:.2f} GB"
    )
    print(f"encoding, one process: {encode['seconds']:.0f} s, {generate['steps'] / encode['seconds']:,.0f} steps/s")
    print(f"opening, initial values and packing: {iterate['opening']:.1f} s, {iterate['padding']:.1%} padding")
    print(
        f"one H100: {UTILISATION:.0%} of {H100_FLOPS / 1e12:.0f} TFLOP/s over 6 x {WEIGHTS_OF_LAYERS / 1e6:.0f}M flops "
        f"per token = {CONSUMED:,.0f} tokens/s; ten times that is {LEAST_RATIO * CONSUMED:,.0f}"
    )
    for name, (by_clock, by_processor) in (("cached", iterate["cached"]), ("cold", iterate["cold"])):
        print(f"loading, {name}: {by_clock:,.0f} tokens/s, {by_processor:,.0f} per second of the processor")
    found = goals(encode, iterate)
    print(f"\n{goals_table(found)}")
    write_goals(config.output, found)


def goals(encode: dict[str, Any], iterate: dict[str, Any]) -> list[Goal]:
    """Every goal, with what was measured."""
    found = []
    for name, result in (("encoding", encode), ("iterating", iterate)):
        note = f"{result['before'] / MIB:.0f} of it before the first trajectory"
        peak = round(result["peak"] / MIB)
        found.append(
            Goal("loading_data", f"memory while {name}", "at most", MOST_MEMORY / MIB, " MiB", peak, note=note)
        )
    for name in ("cached", "cold"):
        by_clock, by_processor = (speed / CONSUMED for speed in iterate[name])
        note = f"{by_processor:.1f} by time of the processor"
        title = f"loading, {name}, one thread, against one H100"
        found.append(Goal("loading_data", title, "at least", LEAST_RATIO, value=by_clock, note=note))
    return found


def in_process(config: LoadingDataConfig, folder: Path, part: str) -> dict[str, Any]:
    """Does a part in a fresh process, whose memory is its own."""
    command = [sys.executable, __file__, "--folder", str(folder), "--part", part]
    for name in ("steps", "row_length", "rows_per_batch", "cold_batches", "seed"):
        command += [f"--{name.replace('_', '-')}", str(getattr(config, name))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def generate(config: LoadingDataConfig) -> dict[str, Any]:
    """Writes the file; lengths of trajectories and texts spread as those of real ones, most turns come only once."""
    import numpy as np

    rng = np.random.default_rng(config.seed)
    phrases = [" ".join(rng.choice(words(), int(rng.integers(2, 24)))) for _ in range(4096)]
    path, steps, count = source(config), 0, 0
    with path.open("w") as file:
        while steps < config.steps:
            length = min(2 + int(rng.geometric(1 / 8)), 40)
            file.write(line(count, length, phrases, rng.integers(0, len(phrases), 4 * length), rng.random() < 0.4))
            steps, count = steps + length, count + 1
    return {"steps": steps, "trajectories": count, "bytes": path.stat().st_size}


def line(number: int, length: int, phrases: list[str], chosen: Any, solved: bool) -> str:
    """One trajectory of so many steps: three phrases are observed, one is said."""
    messages = []
    for step in range(length):
        first, second, third, said = (phrases[index] for index in chosen[4 * step : 4 * step + 4])
        messages.append({"role": "user", "content": f"{first} {second} {third}"})
        messages.append({"role": "assistant", "content": said, "action": True})
    record = {
        "schema": "agentprm.trajectory/1",
        "id": f"t{number}",
        "env": "made",
        "task": f"task{number // 16}",
        "split": "train",
        "messages": messages,
        "rewards": [0.0] * (length - 1) + [float(solved)],
        "ended": "terminated",
    }
    return json.dumps(record, separators=(",", ":")) + "\n"


def encode(config: LoadingDataConfig) -> dict[str, Any]:
    """Encodes the file as the training commands do."""
    from agentprm_jax.data.encode import ChatEncoder
    from agentprm_jax.data.encode_file import claim_store, encode_share, open_store
    from agentprm_jax.data.vocabulary import word_tokenizer
    from agentprm_jax.reporting.progress import progress

    def watch(items: Iterable[Any], label: str, total: int | None) -> Iterator[Any]:
        return progress(items, label, total=total)

    encoder, store = ChatEncoder(word_tokenizer(words())), config.folder / "encoded"
    before, start = memory("VmRSS"), time.perf_counter()
    claim_store(store, source(config), encoder, "steps", watch=watch)
    encode_share(store, source(config), encoder, watch=watch)
    seconds, examples = time.perf_counter() - start, open_store(store)
    return {
        "seconds": seconds,
        "peak": memory("VmHWM"),
        "before": before,
        "tokens": int(examples.lengths.sum(dtype="int64")),
        "bytes": sum(path.stat().st_size for path in store.rglob("*") if path.is_file()),
    }


def iterate(config: LoadingDataConfig) -> dict[str, Any]:
    """Shows an epoch, then some batches of the next from a cold store."""
    from agentprm_jax.data.batch import initial_values
    from agentprm_jax.data.encode_file import open_store
    from agentprm_jax.data.loader import steps_per_epoch
    from agentprm_jax.data.packing import pack
    from agentprm_jax.training.batches import PackedBatches

    before, start = memory("VmRSS"), time.perf_counter()
    examples = open_store(config.folder / "encoded")
    valued = examples.with_initial_values(initial_values(examples.outcomes, examples.groups))
    rows = pack(valued, length=config.row_length)
    batches = PackedBatches(rows, rows_per_batch=config.rows_per_batch, seed=config.seed)
    opening, epoch = time.perf_counter() - start, steps_per_epoch(rows, config.rows_per_batch)
    cached = speed(batches, range(epoch), int(examples.lengths.sum(dtype="int64")))
    forget(config.folder / "encoded")
    some = range(epoch, epoch + min(epoch, config.cold_batches))
    cold = speed(batches, some, None)
    return {
        "opening": opening,
        "padding": rows.padding_share,
        "cached": cached,
        "cold": cold,
        "before": before,
        "peak": memory("VmHWM"),
    }


def speed(batches: Any, steps: Iterable[int], expected: int | None) -> tuple[float, float]:
    """Tokens that are no padding, per second of the clock and of the processor.

    All of the data must come if it is said how many tokens those are.
    """
    tokens, clock, processor = 0, 0.0, 0.0
    for step in steps:
        begun = time.perf_counter(), time.process_time()
        batch = batches[step]
        clock += time.perf_counter() - begun[0]
        processor += time.process_time() - begun[1]
        tokens += int((batch.segments > 0).sum())
    if expected is not None and tokens != expected:
        raise ValueError(f"An epoch must show all {expected:,} tokens once, got {tokens:,}.")
    return tokens / clock, tokens / processor


def forget(folder: Path) -> None:
    """Asks the kernel to drop the pages of all files of a folder; those that were not written yet are written first."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def words() -> list[str]:
    """The vocabulary of the generated texts."""
    return [f"w{number}" for number in range(2000)]


def source(config: LoadingDataConfig) -> Path:
    """The generated file."""
    return config.folder / "trajectories.jsonl"


PARTS = {"generate": generate, "encode": encode, "iterate": iterate}

if __name__ == "__main__":
    main(tyro.cli(LoadingDataConfig, description=__doc__))
