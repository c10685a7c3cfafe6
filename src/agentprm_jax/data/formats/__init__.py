"""Foreign formats of trajectories and step labels: AgentGym, OpenAI chat, TRL, OpenRLHF, PRM800K and others.

    read_format("math-shepherd", "math-shepherd.jsonl", outcome="last")
    write_format("trl", trajectories, "steps.jsonl", scorer="label")

``FORMATS`` lists them. Reading refuses a bad row by file, place, field, expected and got; writing refuses what a
format cannot hold, by the name of the trajectory and the reason. Nothing is rounded or dropped: see ``rest``.
"""

from agentprm_jax.data.formats.options import CannotHold, MissingChoice, Options
from agentprm_jax.data.formats.rows import BadItem
from agentprm_jax.data.formats.table import FORMATS, Format, iterate_format, read_format, write_format

__all__ = [
    "FORMATS",
    "BadItem",
    "CannotHold",
    "Format",
    "MissingChoice",
    "Options",
    "iterate_format",
    "read_format",
    "write_format",
]
