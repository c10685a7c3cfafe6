"""A trajectory on the terminal: what was said, which turns are actions, and promise and progress of each as bars."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, NamedTuple

from agentprm_jax.data.trajectory import Message, RecordedScores, Trajectory
from agentprm_jax.reporting.formatting import MINUS

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_MOST_LINES = 8
_MOST_CHARACTERS = 600
_WIDEST_BAR = 24
_LABEL = 22
"""Columns before a bar: `  progress  +0.1234  `."""


class Strokes(NamedTuple):
    """What bars are drawn with."""

    full: str
    empty: str
    centre: str
    minus: str


UNICODE = Strokes("█", "·", "│", MINUS)
ASCII = Strokes("#", ".", "|", "-")


def print_trajectory(trajectory: Trajectory, console: Console, *, prm: str | None = None, full: bool = False) -> None:
    """Prints a trajectory; text is never taken for markup or for commands to the terminal.

    Args:
        trajectory: what to print.
        console: where to; its width and encoding decide how long bars are and what they are drawn with.
        prm: name of the scores to show; None takes the only ones that there are, if there are any.
        full: whether long texts are shown to their end.

    Raises:
        ValueError: there are no scores of that name, or several and none was named.
    """
    scores = _scores(trajectory, prm)
    encoding = console.encoding
    strokes = UNICODE if encoding.startswith("utf") else ASCII
    width = max(4, min(_WIDEST_BAR, console.width - _LABEL))
    console.print(_heading(trajectory, encoding))
    step = 0
    for index, message in enumerate(trajectory.messages):
        console.print(_title(index, message, step, len(trajectory.rewards)))
        console.print(_body(message, full, encoding))
        if message.action:
            console.print(_step(trajectory, scores, step, width, strokes))
            step += 1


def promise_bar(promise: float, width: int, strokes: Strokes = UNICODE) -> str:
    """A bar from 0 to 1; what lies outside fills it or leaves it empty."""
    filled = round(min(max(promise, 0.0), 1.0) * width)
    return strokes.full * filled + strokes.empty * (width - filled)


def progress_bar(progress: float, largest: float, width: int, strokes: Strokes = UNICODE) -> str:
    """A bar to the right of the centre for what was gained, to its left for what was lost.

    Args:
        progress: what an action added.
        largest: the progress that fills a half, above 0.
        width: columns; the centre takes one of them if it is odd, and one of the halves otherwise.
        strokes: what to draw with.
    """
    half = (width - 1) // 2
    filled = round(min(abs(progress) / largest, 1.0) * half)
    bar, rest = strokes.full * filled, strokes.empty * (half - filled)
    left, right = (rest + bar, strokes.empty * half) if progress < 0 else (strokes.empty * half, bar + rest)
    return left + strokes.centre + right


def folded(text: str) -> tuple[str, str]:
    """The beginning of a text, and what is said about the rest; that is empty if nothing is hidden."""
    lines = text.split("\n")
    shown = "\n".join(lines[:_MOST_LINES])[:_MOST_CHARACTERS]
    hidden = len(text) - len(shown)
    if not hidden:
        return text, ""
    more = len(lines) - shown.count("\n") - 1
    return shown, f"[{hidden:,} more characters{f' in {more:,} more lines' if more else ''}; --full shows them]"


def visible(text: str, encoding: str = "utf-8") -> str:
    """The text with control characters spelt out, and those that the terminal's encoding lacks.

    What a model said must not move the cursor or set a title.
    """
    harmless = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
    return harmless.encode(encoding, "backslashreplace").decode(encoding)


def _scores(trajectory: Trajectory, prm: str | None) -> RecordedScores | None:
    names = sorted(trajectory.scores)
    if prm is None and not names:
        return None
    if prm is None and len(names) > 1:
        raise ValueError(f"Trajectory {trajectory.id} has scores of {', '.join(names)}: name one with --prm.")
    chosen = names[0] if prm is None else prm
    if chosen not in trajectory.scores:
        raise ValueError(f"Trajectory {trajectory.id} has no scores of {chosen}, only {', '.join(names) or 'none'}.")
    return trajectory.scores[chosen]


def _heading(trajectory: Trajectory, encoding: str) -> Text:
    from rich.text import Text

    shown = Text()
    facts = [
        ("id", trajectory.id),
        ("task", f"{trajectory.task} ({trajectory.env}, {trajectory.split})"),
        ("outcome", f"{trajectory.outcome:g}, {'solved' if trajectory.success else 'not solved'}, {trajectory.ended}"),
        ("steps", str(len(trajectory.rewards))),
    ]
    if actor := trajectory.actor:
        heat = "" if actor.temperature is None else f", temperature {actor.temperature:g}"
        facts.append(("actor", f"{actor.name}{heat}"))
    if trajectory.scores:
        facts.append(("scores", ", ".join(sorted(trajectory.scores))))
    for name, value in facts:
        shown.append(f"{name:<8} ", "dim")
        shown.append(visible(value, encoding) + "\n", "bold" if name == "id" else "")
    return shown


def _title(index: int, message: Message, step: int, steps: int) -> Text:
    from rich.text import Text

    if not message.action:
        return Text(f"[{index}] {message.role}", "dim")
    return Text(f"[{index}] {message.role}: action {step + 1} of {steps}", "bold cyan")


def _body(message: Message, full: bool, encoding: str) -> Text:
    from rich.text import Text

    text, note = (message.content, "") if full else folded(message.content)
    shown = Text(visible(text, encoding), "bold" if message.action else "")
    if note:
        shown.append(f"\n{note}", "dim italic")
    return shown if message.action else Text.assemble(shown, "\n")


def _step(trajectory: Trajectory, scores: RecordedScores | None, step: int, width: int, strokes: Strokes) -> Text:
    from rich.text import Text

    shown = Text(f"  reward    {_number(trajectory.rewards[step], '-', strokes)}\n")
    if scores is not None:
        promise, progress = scores.promise[step], scores.progress[step]
        largest = max(map(abs, scores.progress)) or math.inf
        shown.append(f"  promise   {_number(promise, '-', strokes)}  ")
        shown.append(promise_bar(promise, width, strokes) + "\n", "cyan")
        shown.append(f"  progress  {_number(progress, '+', strokes)}  ")
        shown.append(progress_bar(progress, largest, width, strokes) + "\n", "red" if progress < 0 else "green")
    return shown


def _number(value: float, sign: str, strokes: Strokes) -> str:
    """A number in eight columns; `sign` is `+` to show a plus as well, `-` for a minus only."""
    return f"{format(value, f'{sign}.4f').replace('-', strokes.minus):>8}"
