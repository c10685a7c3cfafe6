"""What foreign files leave open, and how the caller fills it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from agentprm_jax.data.formats.rows import Row
from agentprm_jax.data.record import BadTrajectory, Trajectory


class MissingChoice(ValueError):
    """A file leaves something open that changes what a model learns, and the caller has not said how to fill it."""


class CannotHold(ValueError):
    """A trajectory holds something for which the format has no place.

    Attributes:
        id: Name of the trajectory.
        format: Name of the format.
        reason: What it is.
    """

    def __init__(self, trajectory: Trajectory, form: str, reason: str):
        """Keeps the parts and composes the sentence from them."""
        super().__init__(f"Trajectory {trajectory.id} cannot be written as {form}: {reason}.")
        self.id, self.format, self.reason = trajectory.id, form, reason


@dataclass(frozen=True)
class Options:
    """What the formats leave open. Each takes some of these; see ``Format.reads_with`` and ``Format.writes_with``.

    Attributes:
        outcome: The final reward, for files that have none. A number in [0, 1] for every trajectory (1.0 takes all as
            solved); a mapping from task to number; ``"last"`` for the label of the last step, where steps have labels;
            ``"finish"`` for 1 where the labeller reached the correct answer and 0 elsewhere, in PRM800K.
        env: Name of the environment, for files that do not give it.
        split: The split that the tasks belong to; no format says it.
        ended: How the episodes ended; no format says it.
        opening: How many assistant messages at the beginning are no actions, where nothing marks them.
        reward_scale: What rewards are divided by, so that outcomes lie in [0, 1]: 100 for AgentGym's SciWorld. Writing:
            what outcomes are multiplied by. Finite and above 0. None is what the trajectory was read with, or else 1.
        scorer: Name of the scorer whose promises are the step labels. Reading: None is ``"label"``. Writing: None is
            the only scorer that the trajectory has.
        tag: The token that ends a step.
        first_step: The words with which the first step begins, which is where the question ends.
        text_key: Name of OpenRLHF's column of texts (its ``--input_key``).
        labels_key: Name of OpenRLHF's column of labels (its ``--label_key``).
        neutral: The label of PRM800K's rating 0 when -1 and 1 become 0 and 1. None keeps the ratings as they are.
        told: Which of these the caller chose; the rest of a trajectory must agree with them where a row carries one.
    """

    outcome: float | Mapping[str, float] | Literal["last", "finish"] | None = None
    env: str | None = None
    split: str = "unknown"
    ended: Literal["terminated", "truncated"] = "terminated"
    opening: int = 1
    reward_scale: float | None = None
    scorer: str | None = None
    tag: str = "ки"
    first_step: str = "Step 1:"
    text_key: str = "input"
    labels_key: str = "value"
    neutral: float | None = None
    told: frozenset[str] = frozenset()


def chosen_outcome(row: Row, options: Options, form: str, task: str, labels: list[float] | None = None) -> float:
    """The outcome of a row that has none, as the caller chose to fill it.

    Args:
        row: The row.
        options: The caller's choice.
        form: Name of the format.
        task: The task of the row.
        labels: The labels of its steps, if it has any.

    Returns:
        The outcome.

    Raises:
        MissingChoice: If the caller has chosen nothing that the format knows.
        BadTrajectory: If the choice gives nothing for this row.
    """
    match options.outcome:
        case "last" if labels is not None:
            if not labels or not 0.0 <= labels[-1] <= 1.0:
                got = repr(labels[-1]) if labels else "no step"
                raise BadTrajectory(f"{row.where}labels", 'a last label in [0, 1] for outcome="last"', got)
            return labels[-1]
        case Mapping() as outcomes:
            if task not in outcomes:
                raise BadTrajectory("outcome", "a number for every task in the mapping", f"none for {task}")
            return float(outcomes[task])
        case bool() | int() | float() as outcome if 0.0 <= outcome <= 1.0:
            return float(outcome)
        case wrong:
            last = '"last" (the label of the last step), ' if labels is not None else ""
            raise MissingChoice(
                f"{form} has no outcome, so the reader must be told how to fill it: outcome should be {last}a number "
                f"in [0, 1] for every trajectory (1.0 takes all as solved), or a mapping from task to number; "
                f"got {wrong!r}."
            )
