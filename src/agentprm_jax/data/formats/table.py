"""The foreign formats by name, and reading and writing files of any of them."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from agentprm_jax.data.formats import agentgym, chat, cornell, prm800k, tagged, trl
from agentprm_jax.data.formats.options import CannotHold, Options, is_scale
from agentprm_jax.data.formats.rest import read_with_rest, with_rest
from agentprm_jax.data.formats.rows import BadItem, Container, Row, iterate_rows, write_rows
from agentprm_jax.data.formats.steps import named_scorer
from agentprm_jax.data.reading import BadLine, Trajectories
from agentprm_jax.data.record import BadTrajectory, Trajectory, too_deep


@dataclass(frozen=True)
class Format:
    """A foreign format.

    Attributes:
        about: What it is, in one line.
        container: How its files hold rows: an array, lines, or a folder with a file for each.
        read: Makes a trajectory of a row.
        write: Makes a row of a trajectory.
        reads_with: The options that its reader takes besides ``split`` and ``ended``, which all take.
        writes_with: The options that its writer takes.
    """

    about: str
    container: Container
    read: Callable[[Row, Options], Trajectory]
    write: Callable[[Trajectory, Options], dict[str, Any]]
    reads_with: tuple[str, ...]
    writes_with: tuple[str, ...] = ()

    @property
    def labelled(self) -> bool:
        """Whether its rows hold a label for each step."""
        return "scorer" in self.writes_with


_TAGS = ("tag", "first_step")
_COLUMNS = ("text_key", "labels_key")
_LABELS = ("outcome", "env", "scorer")

FORMATS: dict[str, Format] = {
    agentgym.TRAJ: Format(
        "AgentGym's demonstrations, AgentTraj-L", "array", agentgym.read_traj, agentgym.write_traj, ("outcome", "env")
    ),
    agentgym.EVAL: Format(
        "AgentGym's benchmark tasks, AgentEval", "array", agentgym.read_eval, agentgym.write_eval, ("env",)
    ),
    agentgym.RESULTS: Format(
        "episodes played by AgentGym's evaluators",
        "lines",
        agentgym.read_results,
        agentgym.write_results,
        ("env", "opening", "reward_scale"),
        ("reward_scale",),
    ),
    agentgym.RL: Format(
        "rollout logs of AgentGym-RL",
        "array",
        agentgym.read_rl,
        agentgym.write_rl,
        ("env", "opening", "reward_scale"),
        ("reward_scale",),
    ),
    chat.CHAT: Format("OpenAI's chat messages, with tool calls", "lines", chat.read, chat.write, ("outcome", "env")),
    trl.TRL: Format("TRL's stepwise supervision", "lines", trl.read, trl.write, _LABELS, ("scorer",)),
    tagged.OPENRLHF: Format(
        "OpenRLHF's process reward data",
        "lines",
        tagged.read_openrlhf,
        tagged.write_openrlhf,
        (*_LABELS, *_TAGS, *_COLUMNS),
        ("scorer", *_TAGS, *_COLUMNS),
    ),
    tagged.SHEPHERD: Format(
        "Math-Shepherd's steps marked + and -",
        "lines",
        tagged.read_shepherd,
        tagged.write_shepherd,
        (*_LABELS, *_TAGS),
        ("scorer", *_TAGS),
    ),
    prm800k.PRM800K: Format(
        "PRM800K's rated solutions",
        "lines",
        prm800k.read,
        prm800k.write,
        (*_LABELS, "neutral"),
        ("scorer", "neutral"),
    ),
    cornell.ROLLOUT: Format(
        "ALFWorld rollouts of Cornell's agent_prm", "folder", cornell.read_rollout, cornell.write_rollout, ("env",)
    ),
    cornell.TARGET: Format(
        "step targets of Cornell's agent_prm",
        "lines",
        cornell.read_target,
        cornell.write_target,
        _LABELS,
        ("scorer",),
    ),
}


def read_format(
    name: str, path: str | os.PathLike[str], *, on_error: Literal["raise", "collect"] = "raise", **options: Any
) -> Trajectories:
    """Reads a whole foreign file.

    Args:
        name: A key of ``FORMATS``.
        path: A file or folder of that format.
        on_error: ``raise`` stops at the first bad row; ``collect`` goes on and leaves the errors in ``errors``.
        **options: Fields of ``Options`` that the format's reader takes.

    Returns:
        The trajectories in order, a list with the attribute ``errors``.

    Raises:
        BadItem: At the first row that the format does not allow, if ``on_error`` is ``raise``.
        MissingChoice: If the file leaves something open that changes what a model learns, and no option fills it.
        ValueError: If the format, an option, or ``on_error`` is unknown.
        OSError: If the file cannot be opened.
    """
    if on_error not in ("raise", "collect"):
        raise ValueError(f"on_error should be 'raise' or 'collect', got {on_error!r}.")
    errors: list[BadLine] = []
    kept = errors if on_error == "collect" else None
    return Trajectories(list(iterate_format(name, path, kept, **options)), errors)


def iterate_format(
    name: str, path: str | os.PathLike[str], errors: list[BadLine] | None = None, **options: Any
) -> Iterator[Trajectory]:
    """Reads a foreign file one trajectory at a time; JSON lines are not held in memory.

    Args:
        name: A key of ``FORMATS``.
        path: A file or folder of that format.
        errors: When given, bad rows are appended to it and reading goes on; otherwise the first one is raised.
        **options: Fields of ``Options`` that the format's reader takes.

    Returns:
        An iterator over the trajectories, in order.

    Raises:
        BadItem: At the first row that the format does not allow, if ``errors`` is None.
        MissingChoice: If the file leaves something open that changes what a model learns, and no option fills it.
        ValueError: If the format or an option is unknown, or the ``reward_scale`` no finite number above 0.
    """
    form = _format(name)
    chosen = _chosen(name, "reader", ("split", "ended", *form.reads_with), options)
    return _trajectories(form, Path(path), errors, chosen)


def write_format(
    name: str,
    trajectories: Iterable[Trajectory],
    path: str | os.PathLike[str],
    refused: list[CannotHold] | None = None,
    *,
    replace_folder: bool = False,
    **options: Any,
) -> int:
    """Writes a whole foreign file; ``read_format`` gives the same trajectories back.

    Args:
        name: A key of ``FORMATS``.
        trajectories: What to write, in order.
        path: The file or folder; either all of it appears under its name, or nothing does.
        refused: When given, what the format cannot hold is appended to it and left out; otherwise the first is raised.
        replace_folder: Whether a folder of that name is replaced, as a file is, if it holds nothing but such files.
        **options: Fields of ``Options`` that the format's writer takes; reading back takes the same.

    Returns:
        The number of trajectories written.

    Raises:
        FileExistsError: If the format is a folder and something stands there that is not replaced.
        CannotHold: If a trajectory holds something for which the format has no place, and ``refused`` is None.
        TrajectoryWriteError: If the disk refuses.
        ValueError: If the format or an option is unknown, the ``reward_scale`` is no finite number above 0, or the
            path's name does not fit the format.
    """
    form = _format(name)
    chosen = _chosen(name, "writer", form.writes_with, options)
    rows = _rows(name, form, trajectories, refused, chosen)
    return write_rows(Path(path), form.container, rows, replace_folder=replace_folder)


def _trajectories(form: Format, path: Path, errors: list[BadLine] | None, options: Options) -> Iterator[Trajectory]:
    for place, values in iterate_rows(path, errors):
        try:
            trajectory = _trajectory(form, Row(values, place.name), options)
        except BadTrajectory as problem:
            error = BadItem(place, problem.field, problem.expected, problem.got)
            if errors is None:
                raise error from problem
            errors.append(error)
        else:
            yield trajectory


def _trajectory(form: Format, row: Row, options: Options) -> Trajectory:
    try:
        return read_with_rest(row, form.read, options)
    except RecursionError as error:
        raise too_deep("") from error


def _rows(
    name: str, form: Format, trajectories: Iterable[Trajectory], refused: list[CannotHold] | None, options: Options
) -> Iterator[dict[str, Any]]:
    for trajectory in trajectories:
        try:
            row = _row(name, form, trajectory, options)
        except CannotHold as error:
            if refused is None:
                raise
            refused.append(error)
        else:
            yield row


def _row(name: str, form: Format, trajectory: Trajectory, options: Options) -> dict[str, Any]:
    scale = agentgym.reward_scale(trajectory, options) if "reward_scale" in form.writes_with else None
    scaled = replace(options, reward_scale=scale)
    row = form.write(trajectory, scaled)
    scorer = named_scorer(trajectory, name, options.scorer) if form.labelled else None
    return with_rest(row, trajectory, form.read, replace(scaled, scorer=scorer), name)


def _format(name: str) -> Format:
    if name not in FORMATS:
        raise ValueError(f"The format should be one of {', '.join(FORMATS)}, got {name!r}.")
    return FORMATS[name]


def _chosen(name: str, side: str, takes: tuple[str, ...], options: dict[str, Any]) -> Options:
    """The options, of which this side of the format takes some, in their range."""
    for option in options:
        if option not in takes:
            known = f"takes {', '.join(takes)}" if takes else "takes no options"
            raise ValueError(f"The {side} of {name} {known}, got {option}.")
    scale = options.get("reward_scale")
    if scale is not None and not is_scale(scale):
        raise ValueError(f"The {side} of {name} takes a finite number above 0 as reward_scale, got {scale!r}.")
    return Options(**options, told=frozenset(options))
