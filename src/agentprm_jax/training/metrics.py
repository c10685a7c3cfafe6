"""Where the metrics of a run go: JSON Lines, TensorBoard, the terminal."""

import contextlib
import json
import os
import pathlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from tensorboardX import SummaryWriter

Row = Mapping[str, float]
"""The metrics of one update; "step" is the number of updates made with it, counted from 1."""


class Writer(Protocol):
    """Takes rows in the order of their steps."""

    def write(self, rows: Sequence[Row]) -> None:
        """Takes the rows of the updates since the last call."""
        ...

    def close(self) -> None:
        """Lets go of what it holds."""
        ...


class JsonLinesWriter:
    """One JSON object a line and a step. After `write` the lines are on the disk."""

    def __init__(self, path: pathlib.Path, start_step: int) -> None:
        """Opens the file to go on after `start_step`; lines of later steps, and a torn last line, are dropped.

        Args:
            path: the file, created if it is not there.
            start_step: updates made so far; 0 begins anew.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _keep_until(path, start_step)
        self._path = path
        self._file = path.open("a", encoding="utf-8")

    def write(self, rows: Sequence[Row]) -> None:
        """Appends the rows.

        Raises:
            OSError: if they cannot be written, with an answer.
        """
        try:
            self._file.write("".join(json.dumps(row) + "\n" for row in rows))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.close()
            raise OSError(
                error.errno,
                f"Metrics could not be written to {self._path}: {error.strerror}. Make room, then run the same command "
                "again: it goes on from the last checkpoint",
            ) from error

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class TensorBoardWriter:
    """Scalars for TensorBoard; on resuming, what was logged after `start_step` disappears."""

    def __init__(self, directory: pathlib.Path, start_step: int, every: int) -> None:
        """Opens the folder to go on after `start_step`.

        Args:
            directory: folder of the event files.
            start_step: updates made so far; 0 begins anew.
            every: steps between two points of a curve.
        """
        self._every = every
        self._writer = SummaryWriter(str(directory), purge_step=start_step + 1)

    def write(self, rows: Sequence[Row]) -> None:
        """Adds every field of the rows that are due under its own name."""
        for row in rows:
            if row["step"] % self._every == 0:
                for name in row.keys() - {"step"}:
                    self._writer.add_scalar(name, row[name], int(row["step"]))
        self._writer.flush()

    def close(self) -> None:
        """Closes the event file."""
        self._writer.close()


class ConsoleProgress:
    """A progress bar with loss, tokens a second and the remaining time; on what is not a terminal, a line now and then.

    Speed is measured between calls over a window, and never counts the first call, which contains the compilation.
    """

    def __init__(
        self,
        total_steps: int,
        *,
        console: Console,
        clock: Callable[[], float],
        label: str = "training",
        seconds_between_lines: float = 10.0,
    ) -> None:
        """Begins to show nothing until the first rows arrive.

        Args:
            total_steps: updates of the whole run.
            console: where to show it.
            clock: gives seconds from any origin.
            label: what is being trained.
            seconds_between_lines: for what is not a terminal.
        """
        self._total = total_steps
        self._console = console
        self._clock = clock
        self._label = label
        self._interval = seconds_between_lines
        self._tokens = 0.0
        self._marks: deque[tuple[float, float, float]] = deque(maxlen=20)
        self._printed = -float("inf")
        self._bar = _progress_bar(console) if console.is_terminal else None
        self._task = None if self._bar is None else self._bar.add_task(label, total=total_steps, status="")

    def write(self, rows: Sequence[Row]) -> None:
        """Shows the newest row."""
        if not rows:
            return
        now, step = self._clock(), float(rows[-1]["step"])
        self._tokens += sum(row.get("tokens", 0.0) for row in rows)
        self._marks.append((now, step, self._tokens))
        status = f"loss {rows[-1].get('loss', float('nan')):.4f}{self._speed()}"
        if self._bar is not None and self._task is not None:
            self._bar.start()
            self._bar.update(self._task, completed=step, status=status)
        elif now - self._printed >= self._interval or step == self._total:
            self._printed = now
            self._console.print(
                f"{self._label}: step {step:.0f}/{self._total} {status}", highlight=False, soft_wrap=True
            )

    def close(self) -> None:
        """Leaves the bar as it stands."""
        if self._bar is not None:
            self._bar.stop()

    def _speed(self) -> str:
        (then, first_step, first_tokens), (now, step, tokens) = self._marks[0], self._marks[-1]
        if now <= then or step <= first_step:
            return ""
        remaining = (self._total - step) * (now - then) / (step - first_step)
        return f"  {(tokens - first_tokens) / (now - then):,.0f} tokens/s  {_duration(remaining)} left"


def _progress_bar(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[status]}"))
    return Progress(*columns, console=console)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _keep_until(path: pathlib.Path, step: int) -> None:
    """Rewrites the file with the whole lines up to a step; the file is never without them."""
    kept = [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if _is_kept(line, step)]
    draft = path.with_name(path.name + ".tmp")
    with draft.open("w", encoding="utf-8") as file:
        file.writelines(kept)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


def _is_kept(line: str, step: int) -> bool:
    return line.endswith("}\n") and json.loads(line)["step"] <= step
