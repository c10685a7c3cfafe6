"""How fast the native sampler is beside `generate` of transformers: tokens a second over a whole conversation.

Commands:

    uv run --group torch benchmarks/sampling.py
    uv run --group torch benchmarks/sampling.py --models random PATH --dtypes float32 bfloat16

A batch of conversations of different lengths is played for a few turns, an observation between actions. Both sides get
the same weights, take the likeliest tokens, and say the same number of tokens in every action; both know their end
tokens, and both may use all cores. `generate` is used as well as its interface allows: prompts and observations padded
on the left, its own cache kept over the turns so that it reads new tokens only, `logits_to_keep` as it sets it itself,
under `torch.inference_mode`. Our side is called as everybody calls it, with conversations of text, which it encodes.

The sides alternate within one process. A ratio is theirs over ours of neighbouring measurements; given are the median
and the smallest and largest, of the time on the clock and of that on processors. The second says more where other
programs run beside this one; give both sides a single core then (`taskset -c 0`), because threads of torch that wait
for each other count as work. The first round of each side, in which ours is compiled, is timed apart. The bar is a
median ratio of 2 on the clock at the largest batch. Without torch only our own numbers are printed, and the goals say
so. The table is printed, numbers.json and goals.json are written into OUTPUT.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import tyro
from goals import Goal, goals_table, ratio_goal, write_goals
from measuring import Spent, ratio_of, spend
from random_llama import write_random_llama

if TYPE_CHECKING:
    from agentprm_jax.actors import NativeSampler
    from agentprm_jax.data import Message

Play = Callable[[], list[list[str]]]
"""Plays all turns; returns the texts of the actions of each turn."""

BAR = 2.0
NO_TORCH = "torch is not installed (dependency group `torch`)"
RANDOM = "random"
OBSERVATIONS = (
    "You see a wooden door, a bench and {} oak logs. Your inventory holds {} sticks.",
    "Crafted {} planks. You now hold {} planks and a crafting table.",
    "Could not find enough items to craft {} stone pickaxes; {} cobblestones are missing.",
)


@dataclass(frozen=True)
class SamplingConfig:
    """Settings of the measurement."""

    models: tuple[str, ...] = (RANDOM,)
    """Folders that `load_pretrained` and transformers read, or `random` for a small random Llama."""
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    """Types of weights and activations, on both sides."""
    batches: tuple[int, ...] = (1, 8, 32)
    """Conversations at once."""
    turns: int = 3
    """Actions of a conversation."""
    new_tokens: int = 24
    """Tokens of an action."""
    rounds: int = 5
    """Times that each side is measured."""
    capacity: int = 512
    """Most tokens of a conversation."""
    output: Path = Path("runs/benchmarks/sampling")
    """Folder of numbers.json and goals.json."""


class Row(NamedTuple):
    """One line of the table."""

    model: str
    dtype: str
    batch: int
    tokens: int
    ours: list[Spent]
    theirs: list[Spent]
    first_call: float
    equal: float

    @property
    def ratios(self) -> list[Spent]:
        """Their times over ours, of neighbouring measurements."""
        pairs = zip(self.ours, self.theirs, strict=True)
        return [Spent(theirs.clock / ours.clock, theirs.processor / ours.processor) for ours, theirs in pairs]


def main(config: SamplingConfig) -> None:
    """Measures, prints the table, writes the file."""
    from agentprm_jax.reporting.progress import progress

    torch = has_torch()
    if not torch:
        print("torch is not installed (dependency group `torch`), so only our own speed is measured.")
    rows = []
    cases = len(config.models) * len(config.dtypes) * len(config.batches)
    with tempfile.TemporaryDirectory(prefix="agentprm-sampling-") as folder:
        for row in progress(measure_all(config, Path(folder), torch), "sampling", total=cases):
            rows.append(row)
            print("\n".join(table(rows)), flush=True)
            write(config, rows, config.output / "numbers.json")
    found = goals(config, rows)
    print(goals_table(found))
    write_goals(config.output, found)


def has_torch() -> bool:
    """Whether torch can be imported."""
    try:
        import torch  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        return False
    return True


def measure_all(config: SamplingConfig, folder: Path, torch: bool) -> Iterator[Row]:
    """A row for each model, type and batch."""
    for model in config.models:
        path = Path(model)
        if model == RANDOM:
            path = folder / RANDOM
            write_random_llama(path, [*(start[0].content for start in conversations(64)), *OBSERVATIONS])
        for dtype in config.dtypes:
            theirs = load_theirs(path, dtype) if torch else None
            for batch in config.batches:
                yield measure(config, path, dtype, batch, theirs)


def measure(config: SamplingConfig, path: Path, dtype: str, batch: int, theirs: Any) -> Row:
    """Both sides in turns."""
    sampler = load_ours(config, path, dtype, batch)
    starts = conversations(batch)
    ours = our_play(config, sampler, starts)
    sides: list[Play] = [ours] if theirs is None else [ours, their_play(config, sampler, theirs, starts)]
    warm = [spend(side) for side in sides]
    equal = sum(one == other for one, other in zip(warm[0][1][0], warm[-1][1][0], strict=True)) / batch
    times: list[list[Spent]] = [[] for _ in sides]
    for _ in range(config.rounds):
        for side, spent in zip(sides, times, strict=True):
            spent.append(spend(side)[0])
    tokens = batch * config.turns * config.new_tokens
    return Row(path.name, dtype, batch, tokens, times[0], times[1] if theirs else [], warm[0][0].clock, equal)


def conversations(batch: int) -> list[list[Message]]:
    """Tasks of different lengths."""
    from agentprm_jax.data import Message

    task = "Goal: craft a wooden pickaxe. Think, then act. "
    recipe = "craft {} planks using {} oak logs. "
    return [
        [Message("user", task + "".join(recipe.format(place + i, i + 1) for i in range(2 + place % 4)))]
        for place in range(batch)
    ]


def observation(turn: int, row: int) -> str:
    """What the environment says after a turn."""
    return OBSERVATIONS[turn % len(OBSERVATIONS)].format(row + turn + 2, row + 1)


def our_play(config: SamplingConfig, sampler: NativeSampler, starts: list[list[Message]]) -> Play:
    """Conversations through the sampler; each time new ones, so that nothing is at hand from the time before."""
    from agentprm_jax.data import Message

    games = iter(range(1_000_000))

    def play() -> list[list[str]]:
        game = next(games)
        played = [[Message("user", f"{game:06d} {start[0].content}")] for start in starts]
        said = []
        for turn in range(config.turns):
            answers = sampler.act(played, temperature=0.0, max_tokens=config.new_tokens)
            said.append([action.text for (action,) in answers])
            for row, (messages, (action,)) in enumerate(zip(played, answers, strict=True)):
                messages += [Message("assistant", action.text, action=True), Message("user", observation(turn, row))]
        return said

    return play


def their_play(config: SamplingConfig, sampler: NativeSampler, model: Any, starts: list[list[Message]]) -> Play:
    """Conversations through `generate`: left-padded, its cache kept over the turns."""
    import torch  # pyright: ignore[reportMissingImports]
    from transformers import DynamicCache

    from agentprm_jax.data import Message

    encoder, pad = sampler.encoder, sampler.encoder.pad_id
    games = iter(range(1_000_000))
    ends = [encoder.end_of_turn_id]

    def padded(rows: list[list[int]]) -> tuple[Any, Any]:
        width = max(map(len, rows))
        tokens = torch.tensor([[pad] * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        return tokens, mask

    def play() -> list[list[str]]:
        game = next(games)
        prompts = [encoder.prompt_tokens([Message("user", f"{game:06d} {start[0].content}")]) for start in starts]
        tokens, mask = padded(prompts)
        cache, said = DynamicCache(), []
        for turn in range(config.turns):
            with torch.inference_mode():
                grown = model.generate(
                    input_ids=tokens,
                    attention_mask=mask,
                    past_key_values=cache,
                    max_new_tokens=config.new_tokens,
                    min_new_tokens=config.new_tokens,
                    do_sample=False,
                    pad_token_id=pad,
                    eos_token_id=ends,
                )
            new = grown[:, tokens.shape[1] :]
            said.append([encoder.decode_action(row) for row in new.tolist()])
            between = [turn_tokens(sampler, observation(turn, row)) for row in range(len(starts))]
            following, seen = padded(between)
            tokens = torch.cat([grown, following], dim=1)
            mask = torch.cat([mask, torch.ones_like(new), seen], dim=1)
        return said

    return play


def turn_tokens(sampler: NativeSampler, text: str) -> list[int]:
    """Tokens between two actions: the end of the first, the observation, the opening of the second."""
    from agentprm_jax.data import Message

    encoder = sampler.encoder
    before = [Message("user", ""), Message("assistant", "")]
    whole = encoder.prompt_tokens([*before, Message("user", text)])
    return whole[len(encoder.prompt_tokens(before[:1])) :]


def load_ours(config: SamplingConfig, path: Path, dtype: str, batch: int) -> NativeSampler:
    """The sampler of a model, its weights in the given type."""
    import jax
    import jax.numpy as jnp
    from transformers import AutoTokenizer

    from agentprm_jax.actors import NativeSampler, SamplerConfig
    from agentprm_jax.data import ChatEncoder
    from agentprm_jax.models import load_pretrained

    decoder, params = load_pretrained(path)
    sizes = SamplerConfig(
        slots=2 * batch,
        rows=batch,
        smallest_rows=min(batch, 2),
        capacity=config.capacity,
        max_tokens=config.new_tokens,
        min_tokens=config.new_tokens,
        prefill_lengths=(16, 32, 48, 64, 96, 128, 192, 256),
    )
    return NativeSampler(
        dataclasses.replace(decoder, dtype=dtype, param_dtype=dtype),
        jax.tree.map(lambda x: jnp.asarray(x, dtype), params),
        ChatEncoder(AutoTokenizer.from_pretrained(path)),
        sizes,
    )


def load_theirs(path: Path, dtype: str) -> Any:
    """The model in transformers."""
    import torch  # pyright: ignore[reportMissingImports]
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype)).eval()


def table(rows: list[Row]) -> list[str]:
    """The table as Markdown."""
    lines = [
        "| model | dtype | batch | ours, tokens/s | theirs, tokens/s | ratio | processor ratio | equal | first |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        speeds = [
            f"{row.tokens / statistics.median(one.clock for one in side):,.1f}"
            for side in (row.ours, row.theirs)
            if side
        ]
        ratios = [spread(values) for values in zip(*row.ratios, strict=True)] if row.theirs else []
        cells = (*speeds, *ratios) if ratios else (*speeds, "-", "-", "-")
        cells = (row.model, row.dtype, row.batch, *cells, f"{row.equal:.0%}", f"{row.first_call:.1f} s")
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def spread(values: Sequence[float]) -> str:
    """Median, least and most."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def goals(config: SamplingConfig, rows: list[Row]) -> list[Goal]:
    """The bar for each model and type at the largest batch."""
    return [
        ratio_goal(
            "sampling",
            f"{row.model}, {row.dtype}, batch {row.batch}",
            "at least",
            BAR,
            ratio_of([one.clock for one in row.ratios]) if row.theirs else NO_TORCH,
        )
        for row in rows
        if row.batch == max(config.batches)
    ]


def write(config: SamplingConfig, rows: list[Row], path: Path) -> None:
    """The numbers as JSON."""
    content = {"config": dataclasses.asdict(config), "rows": [row._asdict() for row in rows]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(SamplingConfig, description=__doc__))
