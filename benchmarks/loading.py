"""How much memory and time loading takes: a checkpoint of the shape of Qwen2.5-3B, in shards, of random bfloat16.

Command:

    uv run benchmarks/loading.py

Linux only. The checkpoint (6.2 GB) is written to a temporary folder and deleted. Another process loads it onto the
first device and says how far its memory rose above what the parameters themselves take, where they lie in the memory of
the host. The bar is the largest tensor and 15 % of the checkpoint's size.

Two numbers are given, both peaks: of all resident memory, as the kernel records it (VmHWM), and of anonymous memory
alone (RssAnon, sampled every ten milliseconds). The first counts pages of the mapped file too, which the kernel drops
whenever it needs room; the bar is held against it, the stricter one. Speed is that of a file that was just written, so
mostly of the page cache, not of the disk.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import tyro
from goals import Goal, goals_table, write_goals

GB = 1e9


@dataclass(frozen=True)
class LoadingConfig:
    """Settings of the measurement; the defaults are the shape of Qwen2.5-3B."""

    layers: int = 36
    """Blocks."""
    embed: int = 2048
    """Width of the residual stream."""
    mlp: int = 11_008
    """Width of the feed-forward layer."""
    vocab_size: int = 151_936
    """Tokens."""
    max_shard_gb: float = 4.0
    """Size of a shard of the checkpoint."""
    onto: str = "device"
    """Where the parameters go: device, or host (NumPy arrays)."""
    output: Path = Path("runs/benchmarks/loading")
    """Folder of goals.json."""
    load: Path | None = None
    """Only load this folder and print what it took, as JSON; the command starts itself with it."""


def main(config: LoadingConfig) -> None:
    """Writes, loads in another process, prints."""
    if config.load is not None:
        print(json.dumps(measure(config.load, config.onto)))
        return
    with tempfile.TemporaryDirectory(prefix="agentprm-loading-") as folder:
        largest = write_random_checkpoint(config, Path(folder))
        size = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))
        command = [sys.executable, __file__, "--load", folder, "--onto", config.onto]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result = json.loads(done.stdout.splitlines()[-1])
    bar = (largest + 0.15 * size) / GB
    print(f"checkpoint {size / GB:.2f} GB, largest tensor {largest / GB:.2f} GB, onto the {config.onto}")
    print(f"{result['anonymous'] / GB:.2f} GB of the peak anonymous")
    print(f"{result['seconds']:.1f} s, {size / GB / result['seconds']:.2f} GB/s")
    name = "peak of resident memory above the parameters"
    goals = [Goal("loading", name, "at most", round(bar, 2), " GB", value=result["resident"] / GB)]
    print(goals_table(goals))
    write_goals(config.output, goals)


def write_random_checkpoint(config: LoadingConfig, folder: Path) -> int:
    """Writes tensors that are windows of one pool of random numbers; returns the bytes of the largest."""
    import ml_dtypes
    import numpy as np

    from agentprm_jax.models import DecoderConfig
    from agentprm_jax.models.hugging_face_config import config_to_hugging_face
    from agentprm_jax.models.safetensors_writer import Draft
    from agentprm_jax.models.saving import write_checkpoint
    from agentprm_jax.models.weight_names import tensor_names, weight_table

    decoder = DecoderConfig(
        vocab_size=config.vocab_size,
        embed=config.embed,
        mlp=config.mlp,
        layers=config.layers,
        heads=16,
        kv_heads=2,
        head_dim=config.embed // 16,
        rope_theta=1_000_000.0,
        norm_eps=1e-6,
        max_positions=32_768,
        qkv_bias=True,
        dtype="bfloat16",
        param_dtype="bfloat16",
    )
    dtype = np.dtype(ml_dtypes.bfloat16)
    pool = (0.02 * np.random.default_rng(0).standard_normal(1 << 24, np.float32)).astype(dtype)
    drafts = [
        Draft(name, weight.shape, dtype, lambda shape=weight.shape, shift=shift: np.resize(pool[shift:], shape))
        for weight in weight_table(decoder, value_head=False)
        for shift, name in enumerate(tensor_names(decoder, weight))
    ]
    write_checkpoint(folder, config_to_hugging_face(decoder, value_head=False), drafts, int(config.max_shard_gb * GB))
    return max(draft.bytes for draft in drafts)


def measure(folder: Path, onto: str) -> dict[str, float]:
    """Loads and says how many seconds it took, and how many bytes above the parameters' own were in use at most."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import SingleDeviceSharding

    from agentprm_jax.models import load_pretrained

    device = SingleDeviceSharding(jax.devices()[0])
    shardings = None if onto == "host" else lambda axes, shapes: jax.tree.map(lambda _: device, shapes)
    jax.block_until_ready(jnp.zeros(1) + 1)  # what JAX needs for itself is there before the measurement begins
    before = {key: memory(key) for key in ("VmRSS", "RssAnon")}
    Path("/proc/self/clear_refs").write_text("5")  # begins VmHWM anew
    done, anonymous = threading.Event(), [0]
    watcher = threading.Thread(target=watch, args=(done, anonymous))
    watcher.start()
    start = time.perf_counter()
    _, params = load_pretrained(folder, shardings)
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    on_host = onto == "host" or jax.devices()[0].platform == "cpu"
    own = sum(leaf.nbytes for leaf in jax.tree.leaves(params)) if on_host else 0
    return {
        "seconds": seconds,
        "resident": memory("VmHWM") - before["VmRSS"] - own,
        "anonymous": anonymous[0] - before["RssAnon"] - own,
    }


def watch(done: threading.Event, peak: list[int]) -> None:
    """Keeps the highest anonymous memory."""
    while not done.wait(0.01):
        peak[0] = max(peak[0], memory("RssAnon"))


def memory(key: str) -> int:
    """Bytes, as the kernel counts them for this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(key + ":")).split()[1])


if __name__ == "__main__":
    main(tyro.cli(LoadingConfig, description=__doc__))
