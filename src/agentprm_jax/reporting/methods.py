"""How each method is called and drawn, the same in every table, plot and page."""

import re
import zlib
from collections.abc import Iterable
from typing import Literal, NamedTuple

Dash = Literal["solid", "dashed", "dotted", "dashdot"]

INK = "#1d1f24"
MUTED = "#71757f"
RULE = "#d9dbe0"
SUCCESS = "#1f7dc4"
FAILURE = "#d0591e"


class MethodStyle(NamedTuple):
    """Label, colour, dash and marker of one method; colour never stands alone."""

    label: str
    colour: str
    dash: Dash = "solid"
    marker: str = "o"


# Hues after Okabe and Ito (told apart with every common colour vision), in middle lightness so that each has a
# contrast of at least 3 : 1 on white and on near-black.
METHODS: dict[str, MethodStyle] = {
    "agentprm": MethodStyle("AgentPRM", "#1f7dc4", marker="o"),
    "agentprm_delta_q": MethodStyle("AgentPRM (L_A delta_q)", "#4f5fc4", marker="P"),
    "agentprm_no_la": MethodStyle("AgentPRM without L_A", "#b8609f", marker="D"),
    "pvm": MethodStyle("PVM", "#0d9a72", marker="s"),
    "orm": MethodStyle("ORM", "#d0591e", marker="^"),
    "mc": MethodStyle("MC", "#a8851a", marker="v"),
    "oracle": MethodStyle("oracle", INK, "dashed", ""),
    "expert": MethodStyle("expert", INK, "dotted", ""),
    "greedy": MethodStyle("greedy", MUTED, "dashed", ""),
    "greedy_before_sft": MethodStyle("greedy before SFT", MUTED, "dotted", ""),
    "random": MethodStyle("one random sample", MUTED, "dotted", ""),
    "shortest": MethodStyle("shortest", MUTED, "dashdot", ""),
    "longest": MethodStyle("longest", MUTED, "dashdot", ""),
    "any_finish": MethodStyle("any that finished", MUTED, "dashed", ""),
    "earliest_finish": MethodStyle("earliest finish", MUTED, "solid", ""),
    "most_frequent_final_state": MethodStyle("most frequent final state", MUTED, "dotted", ""),
    "random_beam": MethodStyle("random beam", MUTED, "dotted", ""),
    "random_beam_finished_first": MethodStyle("random beam, finished first", MUTED, "dashdot", ""),
    "sft": MethodStyle("SFT", MUTED, "dashed", ""),
    "rft": MethodStyle("RFT", MUTED, "solid", ""),
}

_MEAN_OF = "_mean_of_"
_SPARE_COLOURS = ("#6f6bd1", "#a8851a", "#0c93a8", "#c2506b", "#5f8f2f", "#8a6bb0")
_SPARE_MARKERS = ("P", "X", "v", "<", ">", "p")


def method_key(name: str) -> str:
    """The name under which METHODS lists a method: `AgentPRM no LA` is `agentprm_no_la`."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def ensemble_name(method: str, seeds: int) -> str:
    """The name of the scorer whose promise is the mean of those of a method's PRMs of so many seeds."""
    return f"{method}{_MEAN_OF}{seeds}"


def method_label(name: str) -> str:
    """What readers see: the label from METHODS, or the name itself; that of an ensemble says of what it is the mean."""
    method, _, seeds = name.partition(_MEAN_OF)
    known = METHODS.get(method_key(method))
    label = known.label if known else method
    return f"{label}, mean of {seeds} seeds" if seeds else label


def method_styles(names: Iterable[str]) -> dict[str, MethodStyle]:
    """A style for each name: from METHODS, otherwise a spare colour chosen by the name.

    The choice depends on the name first, so that a method keeps its colour from figure to figure, and moves on only if
    another unknown method of the same figure took that colour.
    """
    styles: dict[str, MethodStyle] = {}
    taken: set[int] = set()
    for name in names:
        known = METHODS.get(method_key(name))
        if known is None and name not in styles:
            slot = _free_slot(name, taken)
            taken.add(slot)
            known = MethodStyle(name, _SPARE_COLOURS[slot], marker=_SPARE_MARKERS[slot])
        if known is not None:
            styles[name] = known
    return styles


def _free_slot(name: str, taken: set[int]) -> int:
    count = len(_SPARE_COLOURS)
    first = zlib.crc32(method_key(name).encode()) % count
    order = [(first + step) % count for step in range(count)]
    return next((slot for slot in order if slot not in taken), first)
