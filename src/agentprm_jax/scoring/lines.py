"""Scores the lines of a trajectory file: the same lines come out, with promise and progress."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from agentprm_jax.data.reading import BadLine, parse_line, strict_json
from agentprm_jax.data.trajectory import Trajectory
from agentprm_jax.scoring.base import StepScores
from agentprm_jax.scoring.config import ScoringConfig
from agentprm_jax.scoring.prm import Prm

SCORES = "scores"


class TooLong(ValueError):
    """A trajectory has more tokens than the PRM is meant for."""


class _Waiting(NamedTuple):
    """A line that is to be scored."""

    record: dict[str, Any]
    trajectory: Trajectory


class LineScorer:
    """Scores lines of one file with one PRM.

    Attributes:
        path: the file.
        name: name under which the scores are written.
        scored: lines scored.
        steps: actions scored.
        kept: lines that an earlier run had scored.
        refused: why lines were skipped.
        dropped: which trajectories were too long.
    """

    def __init__(self, prm: Prm, path: Path, config: ScoringConfig, name: str) -> None:
        """Has scored nothing yet."""
        self.path, self.name = path, name
        self.scored = self.steps = self.kept = 0
        self.refused: list[BadLine] = []
        self.dropped: list[TooLong] = []
        self._prm, self._config = prm, config

    def chunks(self, lines: Iterable[tuple[int, bytes]], done: Iterable[bytes] = ()) -> Iterator[list[bytes]]:
        """The lines with their scores, `ScoringConfig.together` at once; blank lines are passed over.

        Args:
            lines: numbered lines of the file, from 1.
            done: lines that an earlier run on the same file has written; they are compared and not scored again.

        Yields:
            Lines with their line endings, in the order of the file.

        Raises:
            BadLine: a line is no trajectory or cannot be encoded, if bad lines are to stop.
            TooLong: a trajectory is too long, if that is to stop.
            ValueError: a line has scores of that name already, if that is to stop; or `done` is of another file.
        """
        before = iter(done)
        waiting: list[_Waiting] = []
        for number, line in lines:
            found = self._read(number, line) if line.strip() else None
            if found is None or self._was_done(number, found, next(before, None)):
                continue
            waiting.append(found)
            if len(waiting) == self._config.together:
                yield self._score(waiting)
                waiting = []
        if next(before, None) is not None:
            raise self._other_file("has more lines")
        if waiting:
            yield self._score(waiting)

    def _read(self, number: int, line: bytes) -> _Waiting | None:
        """The line, unless it is to be left out."""
        try:
            trajectory = parse_line(line, self.path, number)
            length = self._length(number, trajectory)
        except BadLine as error:
            if self._config.bad_lines == "stop":
                raise
            self.refused.append(error)
            return None
        if length > self._prm.config.max_positions:
            self._drop(number, trajectory, length)
            return None
        if self.name in trajectory.scores and self._config.existing == "stop":
            raise ValueError(
                f"{self.path}, line {number}: the trajectory {trajectory.id} has scores of {self.name} already: "
                "expected none of that name, or --existing replace, or another --name."
            )
        return _Waiting(strict_json(line.decode("utf-8")), trajectory)

    def _length(self, number: int, trajectory: Trajectory) -> int:
        try:
            return self._prm.length(trajectory)
        except ValueError as error:
            expected = f"text that the tokenizer of PRM {self._prm.name} can encode"
            raise BadLine(self.path, number, "messages", expected, str(error).rstrip(".")) from error

    def _drop(self, number: int, trajectory: Trajectory, length: int) -> None:
        error = TooLong(
            f"{self.path}, line {number}: trajectory {trajectory.id} has {length:,} tokens, but PRM {self._prm.name} "
            f"is meant for at most {self._prm.config.max_positions:,} (max_positions). Nothing is cut short: leave "
            "such trajectories out with --too-long drop."
        )
        if self._config.too_long == "stop":
            raise error
        self.dropped.append(error)

    def _was_done(self, number: int, found: _Waiting, line: bytes | None) -> bool:
        """Whether an earlier run has scored this line; what it wrote must be the same line."""
        if line is None:
            return False
        before = strict_json(line.decode("utf-8"))
        if self.name not in before.get(SCORES, {}) or self._without(before) != self._without(found.record):
            raise self._other_file(f"has another trajectory in the place of line {number}")
        self.kept += 1
        return True

    def _without(self, record: dict[str, Any]) -> str:
        """A record as text, without the scores of this name."""
        scores = {name: value for name, value in record.get(SCORES, {}).items() if name != self.name}
        return json.dumps({**record, SCORES: scores}, sort_keys=True)

    def _other_file(self, difference: str) -> ValueError:
        return ValueError(
            f"The unfinished output was not made from {self.path} as it is now: it {difference}. Remove it to start "
            "over."
        )

    def _score(self, waiting: list[_Waiting]) -> list[bytes]:
        scores = iter(self._prm.score([item.trajectory for item in waiting if item.trajectory.rewards]))
        self.scored += len(waiting)
        self.steps += sum(len(item.trajectory.rewards) for item in waiting)
        return [
            self._line(item.record, next(scores) if item.trajectory.rewards else StepScores((), ())) for item in waiting
        ]

    def _line(self, record: dict[str, Any], scores: StepScores) -> bytes:
        mine = {"promise": list(scores.promise), "progress": list(scores.progress)}
        scored = {**record, SCORES: {**record.get(SCORES, {}), self.name: mine}}
        return json.dumps(scored, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8") + b"\n"
