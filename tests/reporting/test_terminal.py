"""A trajectory on the terminal."""

import io
import re

import pytest
from rich.console import Console

from agentprm_jax.data.trajectory import Message
from agentprm_jax.reporting.formatting import MINUS
from agentprm_jax.reporting.terminal import ASCII, folded, print_trajectory, progress_bar, promise_bar, visible
from tests.data.made_trajectories import trajectory

LONG = "\n".join(f"line {number} {'x' * 30}" for number in range(20))


def printed(shown, width=80, encoding="utf-8", colour=False, **options):
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    console = Console(file=file, width=width, force_terminal=colour, color_system="standard" if colour else None)
    print_trajectory(shown, console, **options)
    file.flush()
    return raw.getvalue().decode(encoding)


@pytest.fixture
def scored():
    return trajectory(3).with_scores("mine", [0.25, 0.5, 0.125], [0.25, 0.25, -0.375])


def test_everything_that_happened_is_said(scored):
    said = printed(scored)
    for part in ("one", "babyai_17 (babyai, train)", "1, solved, terminated", "mine", "action 3 of 3", "red green key"):
        assert part in said
    assert re.findall(r"promise +([\d.]+)", said) == ["0.2500", "0.5000", "0.1250"]
    assert re.findall(r"progress +(\S+)", said) == ["+0.2500", "+0.2500", f"{MINUS}0.3750"]
    assert re.findall(r"reward +(\S+)", said) == ["0.0000", "0.0000", "1.0000"]


def test_colour_adds_nothing_that_is_not_said_without_it(scored):
    coloured = re.sub(r"\x1b\[[\d;]*m", "", printed(scored, colour=True))
    assert coloured == printed(scored)


@pytest.mark.parametrize("width", [20, 32, 50, 200])
def test_no_line_is_wider_than_the_terminal(scored, width):
    assert max(map(len, printed(scored, width=width).split("\n"))) <= width


def test_a_terminal_that_knows_ascii_only_gets_ascii(scored):
    accented = trajectory(1, messages=[Message("user", "é"), Message("assistant", "→", True)])
    said = printed(accented, encoding="ascii")
    assert "\\xe9" in said
    assert "\\u2192" in said
    assert "-0.3750" in printed(scored, encoding="ascii")


def test_bars_grow_with_the_number_and_stay_within_their_columns():
    assert [promise_bar(value, 4, ASCII) for value in (-1, 0, 0.5, 1, 7)] == ["....", "....", "##..", "####", "####"]
    bars = [progress_bar(value, 0.5, 7, ASCII) for value in (-0.5, -0.17, 0, 0.34, 0.5)]
    assert bars == ["###|...", "..#|...", "...|...", "...|##.", "...|###"]


def test_a_long_text_is_folded_with_a_count_of_what_is_hidden_and_shown_whole_when_asked():
    shown = trajectory(1, messages=[Message("user", LONG), Message("assistant", "go", True)])
    said = printed(shown)
    assert "line 7" in said
    assert "line 8" not in said
    begin, note = folded(LONG)
    assert note == f"[{len(LONG) - len(begin):,} more characters in 12 more lines; --full shows them]"
    assert "line 19" in printed(shown, full=True)
    assert "--full" not in printed(shown, full=True)
    assert folded("x" * 700) == ("x" * 600, "[100 more characters; --full shows them]")
    assert folded("x" * 600) == ("x" * 600, "")


def test_text_is_neither_markup_nor_a_command_to_the_terminal():
    shown = trajectory(
        1, messages=[Message("user", "[red]a[/red] \x1b]0;title\x07"), Message("assistant", "b\r", True)]
    )
    said = printed(shown)
    assert "[red]a[/red] \\x1b]0;title\\x07" in said
    assert "b\\x0d" in said
    assert visible("a\n\tb") == "a\n\tb"


def test_scores_are_chosen_by_name_where_there_are_several(scored):
    both = scored.with_scores("other", [0.5] * 3, [0.0] * 3)
    with pytest.raises(ValueError, match=r"has scores of mine, other: name one with --prm"):
        printed(both)
    assert printed(both, prm="other").count("0.5000") == 3
    with pytest.raises(ValueError, match=r"has no scores of none, only mine, other"):
        printed(both, prm="none")
    assert "promise" not in printed(trajectory(2))


def test_progress_of_zero_throughout_draws_empty_bars():
    assert "█" not in printed(trajectory(2).with_scores("mine", [0.0, 0.0], [0.0, 0.0]))
