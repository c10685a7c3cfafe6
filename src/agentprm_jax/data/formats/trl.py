"""TRL's stepwise supervision: JSON lines with ``prompt``, ``completions`` and ``labels``, one label a completion.

Source: github.com/huggingface/trl, ``docs/source/dataset_formats.md`` (section "Stepwise supervision"; there is no
conversational variant), ``examples/datasets/math_shepherd.py`` and ``prm800k.py``, and the data card of
trl-lib/math_shepherd ("a list of booleans or floats").

Labels are read as floats (true is 1.0) and written as floats, or as booleans if they were read so and still are 0 and
1. Beware that TRL's own ``PRMTrainer`` applies ``int`` to each label, so that it trains on 0.7 as on 0. The format has
no place for observations between the steps, so conversations of several rounds are refused. How a step's label relates
to the record: see ``steps``.
"""

from typing import Any

from agentprm_jax.data.formats.options import Options, chosen_outcome
from agentprm_jax.data.formats.rows import Row
from agentprm_jax.data.formats.steps import (
    known_columns,
    named_scorer,
    question_and_steps,
    question_task,
    read_labels,
    solved_by_steps,
    written_labels,
)
from agentprm_jax.data.record import Trajectory

TRL = "trl"

_BOOLEANS = {True: 1.0, False: 0.0}
_AS_BOOLEANS = "labels_are_booleans"


def read(row: Row, options: Options) -> Trajectory:
    """A question with the labelled steps of one solution."""
    question, steps = row.text("prompt"), row.texts("completions")
    labels, booleans = read_labels(row, "labels", len(steps), _BOOLEANS)
    columns = row.without("prompt", "completions", "labels")
    task = question_task(TRL if options.env is None else options.env, question)
    return solved_by_steps(
        question,
        steps,
        labels,
        name=row.name,
        form=TRL,
        options=options,
        outcome=chosen_outcome(row, options, "TRL's stepwise supervision", task, labels),
        extra={**columns, _AS_BOOLEANS: True} if booleans else columns,
    )


def write(trajectory: Trajectory, options: Options) -> dict[str, Any]:
    """The row of a question with labelled steps."""
    question, steps = question_and_steps(trajectory, TRL)
    labels = trajectory.scores[named_scorer(trajectory, TRL, options.scorer)].promise
    columns = dict(known_columns(trajectory, TRL))
    said = written_labels(labels, _BOOLEANS, in_words=columns.pop(_AS_BOOLEANS, False))
    return {**columns, "prompt": question, "completions": steps, "labels": said}
