"""`agentprm score`: promise and progress for every action of a file of trajectories."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import tyro

from agentprm_jax.commands.loading import load_on_mesh
from agentprm_jax.commands.model_folder import find_model
from agentprm_jax.commands.output import check_output, print_refused
from agentprm_jax.scoring.config import ScoringConfig
from agentprm_jax.training.config import MeshConfig

if TYPE_CHECKING:
    from agentprm_jax.data.trajectory import TrajectoryWriter
    from agentprm_jax.scoring.lines import LineScorer


@dataclass(frozen=True)
class ScoreConfig:
    """Score every action of trajectories with a PRM.

    The same lines are written with promise and progress under `scores`; nothing else in them changes. OUTPUT appears
    when it is complete; run the same command again to continue an interrupted one, on other devices if you like. A PRM
    that does not fit on a device lies on several with --mesh.fsdp N or --mesh.tensor N.
    """

    trajectories: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="TRAJECTORIES")]
    """Trajectories to score (.jsonl, .jsonl.gz or .jsonl.zst)."""
    prm: Path
    """Folder of the PRM, or of the run that trained it."""
    output: Path | None = None
    """File to write (.jsonl, .jsonl.gz or .jsonl.zst); unset writes NAME.scored.jsonl beside NAME.jsonl."""
    name: str | None = None
    """Name under which the scores are written; unset takes the PRM's own."""
    scoring: Annotated[ScoringConfig, tyro.conf.arg(name="")] = field(default_factory=ScoringConfig)
    """Batches, and what to do about lines that cannot be scored."""
    mesh: MeshConfig = field(default_factory=MeshConfig)
    """Devices."""
    overwrite: bool = False
    """Whether a file that stands at OUTPUT is replaced."""

    def __post_init__(self) -> None:
        """Checks the names of the files.

        Raises:
            ValueError: one ends in none of the known suffixes.
        """
        from agentprm_jax.data.reading import suffix_of

        for path in (self.trajectories, self.target):
            suffix_of(path)

    @property
    def target(self) -> Path:
        """The file to write."""
        from agentprm_jax.data.reading import suffix_of

        if self.output is not None:
            return self.output
        suffix = suffix_of(self.trajectories)
        return self.trajectories.with_name(f"{self.trajectories.name.removesuffix(suffix)}.scored{suffix}")

    @property
    def interrupted(self) -> str:
        """What Ctrl-C leaves."""
        return f"What was scored is kept beside {self.target}: run the same command again to go on."


def main(config: ScoreConfig) -> None:
    """Scores what an unfinished output does not hold yet."""
    target = config.target
    check_output(target, overwrite=config.overwrite)
    if not config.trajectories.is_file():
        raise FileNotFoundError(f"There is no file {config.trajectories}: expected trajectories to score.")
    folder = find_model(config.prm).model
    partial = target.with_name(f"{target.name}.partial.jsonl")
    note = target.with_name(f"{target.name}.partial.json")
    _claim(partial, note, _what(config, folder))

    from agentprm_jax.scoring.lines import LineScorer

    prm = load_on_mesh(folder, config.mesh, tokens_per_batch=config.scoring.tokens_per_batch)
    scorer = LineScorer(prm, config.trajectories, config.scoring, config.name or prm.name)
    start = time.monotonic()
    _write(config, scorer, partial)
    seconds = time.monotonic() - start
    if not scorer.scored + scorer.kept:
        partial.unlink()
        note.unlink()
        print_refused([*map(str, scorer.refused), *map(str, scorer.dropped)])
        raise ValueError(f"No line of {config.trajectories} could be scored, so {target} was not written.")
    _publish(partial, target)
    note.unlink()
    _report(config, scorer, prm.tokens_scored, seconds)


def _write(config: ScoreConfig, scorer: LineScorer, partial: Path) -> None:
    """Appends the scored lines to the unfinished output."""
    from agentprm_jax.data.reading import numbered_lines, open_lines
    from agentprm_jax.data.trajectory import TrajectoryWriter
    from agentprm_jax.reporting.progress import progress

    skipped = scorer.refused if config.scoring.bad_lines == "skip" else None
    total = sum(1 for _ in numbered_lines(config.trajectories, []))
    with TrajectoryWriter(partial) as writer:
        size, kept = partial.stat().st_size, sum(1 for _ in open_lines(partial))
        lines = numbered_lines(config.trajectories, skipped)
        chunks = scorer.chunks(lines, _first_bytes(open_lines(partial), size))
        for _ in progress(_written(chunks, writer), "score", total=total, done=kept):
            pass


def _written(chunks: Iterator[list[bytes]], writer: TrajectoryWriter) -> Iterator[bytes]:
    """The lines of the chunks, when they are on the disk."""
    for chunk in chunks:
        writer.extend_lines(chunk)
        yield from chunk


def _first_bytes(lines: Iterator[bytes], size: int) -> Iterator[bytes]:
    """The lines of the first `size` bytes of a file that grows while it is read."""
    read = 0
    while read < size:
        line = next(lines)
        read += len(line)
        yield line


def _what(config: ScoreConfig, folder: Path) -> dict[str, Any]:
    """All that decides what is written, so that it is continued by the same command only."""
    from agentprm_jax.scoring.prm_files import PRM

    weights = sorted([*folder.glob("*.safetensors"), folder / PRM])
    return {
        "trajectories": _state(config.trajectories),
        "prm": {path.name: _state(path) for path in weights if path.is_file()},
        "name": config.name,
        "too_long": config.scoring.too_long,
        "bad_lines": config.scoring.bad_lines,
    }


def _state(path: Path) -> str:
    found = path.stat()
    return f"{path.resolve()}, {found.st_size} bytes, changed {found.st_mtime_ns}"


def _claim(partial: Path, note: Path, what: dict[str, Any]) -> None:
    """Notes what the unfinished output is made of, or compares that with the note of an earlier run.

    Raises:
        ValueError: another command has left it; names the settings that differ.
    """
    if not partial.exists():
        note.write_bytes(msgspec.json.format(msgspec.json.encode(what)) + b"\n")
        return
    before = msgspec.json.decode(note.read_bytes()) if note.exists() else {}
    differing = [key for key in what if before.get(key) != what[key]]
    if differing:
        raise ValueError(
            f"{partial} was begun by a command with another {' and another '.join(differing)}. Run that command again "
            "to finish it, choose another --output, or remove that file to start over."
        )


def _publish(partial: Path, target: Path) -> None:
    """Gives the finished output its name."""
    from agentprm_jax.data.reading import open_lines, suffix_of
    from agentprm_jax.data.writing import write_whole

    suffix = suffix_of(target)
    if suffix == ".jsonl":
        os.replace(partial, target)
        return
    write_whole(target, suffix, open_lines(partial))
    partial.unlink()


def _report(config: ScoreConfig, scorer: LineScorer, tokens: int, seconds: float) -> None:
    kept = f" ({scorer.kept:,} more were scored before)" if scorer.kept else ""
    print(
        f"{config.target}: {scorer.scored:,} trajectories{kept} with {scorer.steps:,} steps and {tokens:,} tokens "
        f"scored as {scorer.name} in {seconds:,.1f} s, compilation included: {scorer.steps / seconds:,.1f} steps/s, "
        f"{tokens / seconds:,.0f} tokens/s. {len(scorer.dropped):,} too long and left out, {len(scorer.refused):,} "
        "refused."
    )
    print_refused([*map(str, scorer.refused), *map(str, scorer.dropped)])
