"""What search pays when conversations are kept: tokens and time of beam search against encoding again.

Commands:

    uv run benchmarks/search.py
    uv run benchmarks/search.py --models small --passes 5

A beam search @8x8 over episodes of 15 steps is played once, with random weights, in a made world that answers every
action with as many words as a real one. What it asked of the scorer and of the actor is then asked again of three
sides, which take turns in every round of the search:

* `kept`: the scorer, or the sampler, as it is. It keeps the keys and values of conversations between calls.
* `shared`: the same, made to forget all conversations before every call. Candidates of one conversation still share it.
* `whole`: every candidate conversation is read from its first token: whole conversations, packed, through `Prm.score`;
  one call for each of the M samples of the sampler.

Tokens are those run through the model, padding not counted. Times are the sums over the rounds of one pass; a ratio is
that of neighbouring measurements; given are the median of the passes and the least and greatest, of the time on the
clock and of that on processors. The first pass compiles and is left out. As `whole` takes long with a larger model, it
is timed in every fifth round only, and held against the same rounds of `kept`; its tokens are counted in all.

Goals: `kept` processes at most 1/5 of the tokens of `whole`, scores differ by at most 1e-5, and it is at least 4 times
as fast.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import tyro
from goals import Goal, goals_table, ratio_goal, write_goals
from measuring import Spent, ratio_of, spend
from msgspec.structs import replace
from search_game import EVERY, SearchConfig, make_model, play
from search_sides import Side, acting_sides, scoring_sides

TOKEN_BAR, TIME_BAR, DIFFERENCE_BAR = 1 / 5, 4.0, 1e-5
EQUAL_BATCHES = "Every sample in a call of its own; in equal batches, which read once what samples share:"


class Row(NamedTuple):
    """One line of the table: a side of the scorer or the actor, against `kept`.

    Attributes:
        model, part, side: what was measured.
        tokens: run through the model in a whole search.
        token_ratio: tokens of `kept` over those of the side.
        seconds: of its timed rounds, clock and processors, median of the passes.
        clock, processor: time of the side over that of `kept` in the same rounds, one figure a pass.
        difference: largest difference of scores from `kept`, or share of actions that differ; None where they are drawn
            from other random numbers.
    """

    model: str
    part: str
    side: str
    tokens: int
    token_ratio: float
    seconds: Spent
    clock: list[float]
    processor: list[float]
    difference: float | None


def main(config: SearchConfig) -> None:
    """Measures, prints the table and the goals, writes the file."""
    from agentprm_jax.reporting.progress import progress

    rows: list[Row] = []
    for model_rows in progress(measure_all(config), "search", total=len(config.models) * 2):
        rows += model_rows
        print("\n".join(table(rows)), flush=True)
    found = goals(rows)
    print(f"\n{goals_table(found)}")
    write_goals(config.output, found)
    content = {"config": dataclasses.asdict(config), "rows": [row._asdict() for row in rows]}
    text = json.dumps(content, indent=2, default=str) + "\n"
    (config.output / "numbers.json").write_text(text, encoding="utf-8")


def measure_all(config: SearchConfig) -> Iterator[list[Row]]:
    """Rows of the scorer and of the actor for each model."""
    for model in config.models:
        decoder, encoder, params = make_model(config, model)
        recorder = play(config, decoder, encoder, params)
        timed = frozenset(range(0, len(recorder.scored), EVERY[model]))
        yield measure(config, model, "scorer", scoring_sides(recorder, decoder, encoder, params, timed))
        yield measure(config, model, "actor", acting_sides(config, recorder, decoder, encoder, params, timed))


def measure(config: SearchConfig, model: str, part: str, sides: Sequence[Side]) -> list[Row]:
    """All sides in turns, round by round."""
    first, *passes = [one_pass(sides) for _ in range(1 + config.passes)]
    kept = sides[0]
    rows = []
    for side in sides:
        clock, processor = [], []
        for spent in passes:
            own, other = (_total(spent, name, side.rounds) for name in (side.name, kept.name))
            clock.append(own.clock / other.clock)
            processor.append(own.processor / other.processor)
        tokens, base = (first.tokens[name] for name in (side.name, kept.name))
        totals = [_total(spent, side.name, side.rounds) for spent in passes]
        seconds = Spent(*(statistics.median(column) for column in zip(*totals, strict=True)))
        difference = None if side is kept else _difference(first, side, kept)
        rows.append(Row(model, part, side.name, tokens, base / tokens, seconds, clock, processor, difference))
    return rows


class Pass(NamedTuple):
    """What all sides took and gave in one pass."""

    spent: dict[tuple[str, int], Spent]
    given: dict[tuple[str, int], list[Any]]
    tokens: dict[str, int]


def one_pass(sides: Sequence[Side]) -> Pass:
    """Every round by every side that is timed in it."""
    found = Pass({}, {}, {})
    before = {side.name: side.tokens() for side in sides}
    for side in sides:
        side.begin()
    for index in sorted(sides[0].rounds):
        for side in sides:
            if index in side.rounds:
                spent, given = spend(lambda side=side, index=index: side.ask(index))
                found.spent[side.name, index], found.given[side.name, index] = spent, given
    for side in sides:
        counted = side.tokens()
        found.tokens[side.name] = counted if side.name == "whole" else counted - before[side.name]
    return found


def _total(found: Pass, name: str, rounds: frozenset[int]) -> Spent:
    return Spent(*map(sum, zip(*(found.spent[name, index] for index in rounds), strict=True)))


def _difference(found: Pass, side: Side, kept: Side) -> float | None:
    """Largest difference of numbers, or share of texts that differ."""
    pairs = [
        pair
        for index in side.rounds
        for pair in zip(found.given[side.name, index], found.given[kept.name, index], strict=False)
    ]
    if not pairs:
        return None
    if isinstance(pairs[0][0], str):
        return sum(one != other for one, other in pairs) / len(pairs)
    return max(abs(one - other) for one, other in pairs)


def table(rows: Sequence[Row]) -> list[str]:
    """The table as Markdown."""
    lines = [
        "| model | part | side | tokens | kept / side | seconds | clock ratio | processor ratio | differs |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        seconds, share = f"{row.seconds.clock:.2f}", f"1/{1 / row.token_ratio:.1f}"
        cells = (row.model, row.part, row.side, f"{row.tokens:,}", share, seconds, spread(row.clock))
        lines.append(f"| {' | '.join((*cells, spread(row.processor), differs(row)))} |")
    return lines


def differs(row: Row) -> str:
    """By how much, in words."""
    if row.difference is None:
        return ""
    return f"{row.difference:.1e}" if row.part == "scorer" else f"{row.difference:.1%} of actions"


def spread(values: Sequence[float]) -> str:
    """Median, least and most."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def goals(rows: Sequence[Row]) -> list[Goal]:
    """Every goal that the rows decide."""
    found = []
    shared = {row.model: row for row in rows if (row.part, row.side) == ("actor", "shared")}
    for row in rows:
        if row.side != "whole":
            continue
        name = f"{row.part}, {row.model} model"
        share = Goal("search", f"{name}, share of the tokens of encoding again", "at most", TOKEN_BAR, "")
        found.append(replace(share, value=row.token_ratio))
        speed = ratio_goal("search", f"{name}, as fast as encoding again", "at least", TIME_BAR, ratio_of(row.clock))
        if row.part == "scorer":
            scores = Goal("search", f"{name}, difference of scores", "at most", DIFFERENCE_BAR, "")
            found += [speed, replace(scores, value=row.difference)]
        else:
            again = shared[row.model]
            actions = Goal("search", f"{name}, actions unlike those of prompts read again", "at most", 0.0, "")
            speed = replace(speed, note=f"{EQUAL_BATCHES} {spread(again.clock)}.")
            found += [speed, replace(actions, value=again.difference)]
    return found


if __name__ == "__main__":
    main(tyro.cli(SearchConfig, description=__doc__))
