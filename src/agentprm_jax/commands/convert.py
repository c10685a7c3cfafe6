"""`agentprm convert`: trajectories and step labels from one format into another."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from agentprm_jax.commands.output import check_output, print_refused

if TYPE_CHECKING:
    from agentprm_jax.data.formats import CannotHold
    from agentprm_jax.data.reading import BadLine
    from agentprm_jax.data.trajectory import Trajectory

NATIVE = "native"
FormatName = Literal[
    "native",
    "agenttraj",
    "agenteval",
    "agentgym",
    "agentgym-rl",
    "openai-chat",
    "trl",
    "openrlhf",
    "math-shepherd",
    "prm800k",
    "cornell-rollout",
    "cornell-target",
]
"""The project's own record, and every foreign format."""


@dataclass(frozen=True)
class ReadingChoices:
    """What a foreign file leaves open. Each format takes some of these; one that it does not take is refused, and so is
    one that contradicts a row that carries the rest of its trajectory."""

    outcome: str | None = None
    """Final reward of files that have none: a number in [0, 1] for all, `last` (label of the last step), `finish`
    (PRM800K: 1 where the labeller reached the answer), or a .json file that maps tasks to numbers."""
    env: str | None = None
    """Environment of files that do not name it."""
    split: str | None = None
    """Split that the tasks belong to; `unknown` unless you say it."""
    ended: Literal["terminated", "truncated"] | None = None
    """How the episodes ended; `terminated` unless you say otherwise."""
    opening: int | None = None
    """Assistant messages at the beginning that are no actions, where nothing marks them (AgentGym's logs: 1)."""
    reward_scale: float | None = None
    """Number that rewards are divided by, so that outcomes lie in [0, 1] (AgentGym's SciWorld: 100)."""
    scorer: str | None = None
    """Name under which step labels are kept as promises; `label` unless you name it."""
    tag: str | None = None
    """Token that ends a step (Math-Shepherd, OpenRLHF; default: ки)."""
    first_step: str | None = None
    """Words with which the first step begins (Math-Shepherd, OpenRLHF; default: "Step 1:")."""
    text_key: str | None = None
    """OpenRLHF's column of texts (default: input)."""
    labels_key: str | None = None
    """OpenRLHF's column of labels (default: value)."""
    neutral: float | None = None
    """PRM800K: label of the rating 0 when -1 and 1 become 0 and 1; unset keeps the ratings."""


@dataclass(frozen=True)
class WritingChoices:
    """How a foreign file is laid out. Each format takes some of these; one that it does not take is refused."""

    scorer: str | None = None
    """Scorer whose promises become the step labels; needed where trajectories have scores of several."""
    tag: str | None = None
    """As for reading."""
    first_step: str | None = None
    """As for reading."""
    text_key: str | None = None
    """As for reading."""
    labels_key: str | None = None
    """As for reading."""
    neutral: float | None = None
    """As for reading."""
    reward_scale: float | None = None
    """Number that outcomes are multiplied by; unset is what the trajectory was read with, or 1."""


@dataclass(frozen=True)
class ConvertConfig:
    """Convert trajectories or step labels from one format into another, or compress them.

    What the other format cannot hold is refused with its reason; nothing is rounded or dropped in silence. OUTPUT
    appears when it is complete. Lines are read and written as a stream.
    """

    input: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="INPUT")]
    """File, or folder of .json files, to read (.json, .jsonl, .jsonl.gz, .jsonl.zst, .parquet)."""
    output: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUTPUT")]
    """File or folder to write; its ending decides how it is compressed. Formats of lines may be tables (.parquet)."""
    from_: Annotated[FormatName, tyro.conf.arg(name="from")]
    """Format of INPUT; `native` is the trajectory record of this project."""
    to: FormatName
    """Format of OUTPUT."""
    read: Annotated[ReadingChoices, tyro.conf.arg(name="")] = field(default_factory=ReadingChoices)
    """Choices of the reader."""
    write: WritingChoices = field(default_factory=WritingChoices)
    """Choices of the writer."""
    refused: Literal["stop", "skip"] = "stop"
    """A line that INPUT's format does not allow, or that OUTPUT's cannot hold: stop, or skip and count it. What a table
    (.parquet) cannot hold, such as a null, always stops."""
    overwrite: bool = False
    """Whether a file that stands at OUTPUT is replaced, or a folder of nothing but files such as 0.json where OUTPUT
    is a folder."""

    @property
    def interrupted(self) -> str:
        """What Ctrl-C leaves."""
        return f"Nothing was written to {self.output}: run the same command again to start over."


def main(config: ConvertConfig) -> None:
    """Reads, writes and says how much of it."""
    _check_output(config)
    unread: list[BadLine] = []
    unwritten: list[CannotHold] = []
    skipping = config.refused == "skip"
    read = Counted(_read(config, unread if skipping else None))
    written = _write(config, _refuse_nothing(config, read, unwritten), unwritten if skipping else None)
    print(
        f"{config.input}: {read.count + len(unread):,} read as {config.from_}, {written:,} written to {config.output} "
        f"as {config.to}, {len(unread) + len(unwritten):,} refused."
    )
    print_refused([*map(str, unread), *map(str, unwritten)])


def _check_output(config: ConvertConfig) -> None:
    """Checks that nothing stands at OUTPUT, or what its format writes and is to be replaced."""
    from agentprm_jax.data.formats import FORMATS
    from agentprm_jax.data.formats.rows import unlike_folder

    if config.to != NATIVE and FORMATS[config.to].container == "folder":
        check_output(config.output, overwrite=config.overwrite, unlike=unlike_folder)
    else:
        check_output(config.output, overwrite=config.overwrite)


class Counted:
    """Passes things on and counts them."""

    def __init__(self, items: Iterator[Trajectory]) -> None:
        """Counts from 0."""
        self._items, self.count = items, 0

    def __iter__(self) -> Iterator[Trajectory]:
        """The things, once."""
        for item in self._items:
            self.count += 1
            yield item


def _read(config: ConvertConfig, errors: list[BadLine] | None) -> Iterator[Trajectory]:
    from agentprm_jax.data.formats import iterate_format
    from agentprm_jax.data.trajectory import iterate_trajectories

    choices = _chosen(config.read)
    if "outcome" in choices:
        choices["outcome"] = _outcome(choices["outcome"])
    if config.from_ != NATIVE:
        return iterate_format(config.from_, config.input, errors, **choices)
    _refuse_choices("reader", choices)
    return iterate_trajectories(config.input, errors)


def _write(config: ConvertConfig, trajectories: Iterator[Trajectory], refused: list[CannotHold] | None) -> int:
    from agentprm_jax.data.formats import write_format
    from agentprm_jax.data.trajectory import write_trajectories

    choices = _chosen(config.write)
    if config.to != NATIVE:
        return write_format(config.to, trajectories, config.output, refused, replace_folder=config.overwrite, **choices)
    _refuse_choices("writer", choices)
    return write_trajectories(config.output, trajectories)


def _refuse_nothing(config: ConvertConfig, read: Counted, unwritten: list[CannotHold]) -> Iterator[Trajectory]:
    """The trajectories with a progress bar; an input of which nothing can be written gives no empty file."""
    from agentprm_jax.reporting.progress import progress

    yield from progress(read, "convert", total=None)
    if len(unwritten) == read.count:
        raise ValueError(
            f"{config.input} holds nothing that can be read as {config.from_} and written as {config.to}, so nothing "
            "was written: expected at least one such row. Run with --refused stop to see what is wrong with the first."
        )


def _chosen(choices: ReadingChoices | WritingChoices) -> dict[str, Any]:
    """The choices that were made."""
    return {name: value for name, value in dataclasses.asdict(choices).items() if value is not None}


def _outcome(said: str) -> float | str | dict[str, float]:
    """A number, a mapping from task to number in a .json file, or the word that was said."""
    if said.endswith(".json"):
        return _outcomes(Path(said))
    try:
        return float(said)
    except ValueError:
        return said


def _outcomes(path: Path) -> dict[str, float]:
    """The outcome of each task, as a file of JSON tells them."""
    from agentprm_jax.data.formats.values import described
    from agentprm_jax.data.reading import strict_json

    expected = "an object that maps tasks to outcomes in [0, 1]"
    try:
        outcomes = strict_json(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected {expected}, got no JSON: {error}.") from error
    if not isinstance(outcomes, dict):
        raise ValueError(f"{path}: expected {expected}, got {described(outcomes)}.")
    for task, outcome in outcomes.items():
        if isinstance(outcome, bool) or not isinstance(outcome, int | float) or not 0.0 <= outcome <= 1.0:
            raise ValueError(f"{path}, key {task!r}: expected a number in [0, 1], got {described(outcome)}.")
    return outcomes


def _refuse_choices(side: str, choices: dict[str, Any]) -> None:
    for name in choices:
        raise ValueError(f"The {side} of native takes no options, got {name}.")
