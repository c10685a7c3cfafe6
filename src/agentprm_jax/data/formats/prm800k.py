"""PRM800K: JSON lines of human-rated solutions, with the alternatives that were rated at each step.

Source: the README of github.com/openai/prm800k (the annotated line under "Data"); that the written-in step is an
object with ``text``, and that ``completions`` may be null, is from huggingface/trl ``examples/datasets/prm800k.py``.
The data files themselves (Git LFS) were not at hand.

A row becomes one trajectory: the question, and the chosen completion of each step, or the labeller's own where none
was chosen, which counts as rated 1 because labellers were asked for a correct step. Where neither is there the path
ends: with the first completion if that is rated, which in phase 2 is the solution's own step at which the first error
was found. Ratings -1, 0 and 1 are kept as the labels -1.0, 0.0 and 1.0; what a neutral step is worth between wrong and
right is the caller's choice (``neutral``). The whole row stays in ``extra``, because its alternatives and the
labeller's notes have no place in a trajectory, and is written back as long as the trajectory still says what it says.
How a step's label relates to the record: see ``steps``.
"""

from typing import Any

from agentprm_jax.data.formats.options import CannotHold, Options, chosen_outcome
from agentprm_jax.data.formats.rows import Row
from agentprm_jax.data.formats.steps import (
    known_columns,
    named_scorer,
    question_and_steps,
    question_task,
    solved_by_steps,
)
from agentprm_jax.data.formats.values import described
from agentprm_jax.data.record import BadTrajectory, Trajectory

PRM800K = "prm800k"

_RATINGS = (-1, 0, 1)


def read(row: Row, options: Options) -> Trajectory:
    """A rated solution: its chosen path."""
    question, path = _question_and_path(row)
    values = _rating_values(options)
    labels = [values[rating] for _, rating in path]
    steps = [text for text, _ in path]
    if options.outcome == "finish":
        outcome = _finish(row.part("label"))
    else:
        task = question_task(PRM800K if options.env is None else options.env, question)
        form = 'PRM800K (which also knows outcome="finish": whether the labeller reached the correct answer)'
        outcome = chosen_outcome(row, options, form, task, labels)
    return solved_by_steps(
        question,
        steps,
        labels,
        name=row.name,
        form=PRM800K,
        options=options,
        outcome=outcome,
        extra={} if _made(question, path) == row.values else row.values,
    )


def write(trajectory: Trajectory, options: Options) -> dict[str, Any]:
    """The row that was read, if the trajectory still says the same; else one with a single completion a step."""
    question, steps = question_and_steps(trajectory, PRM800K)
    labels = trajectory.scores[named_scorer(trajectory, PRM800K, options.scorer)].promise
    values = _rating_values(options)
    kept = known_columns(trajectory, PRM800K)
    if _says(kept, question, steps, [*labels], values):
        return kept
    ratings = {value: rating for rating, value in values.items() if rating == 0}
    ratings |= {value: rating for rating, value in values.items() if rating != 0}
    for index, label in enumerate(labels):
        if label not in ratings:
            known = " and ".join(f"{rating} ({value:g})" for rating, value in values.items())
            reason = f"it knows the ratings {known} only, and the label of step {index} is {label!r}"
            raise CannotHold(trajectory, PRM800K, reason)
    return _made(question, [(step, ratings[label]) for step, label in zip(steps, labels, strict=True)])


def _rating_values(options: Options) -> dict[int, float]:
    """The label that each rating is read as."""
    if options.neutral is None:
        return {rating: float(rating) for rating in _RATINGS}
    return {-1: 0.0, 0: float(options.neutral), 1: 1.0}


def _question_and_path(row: Row) -> tuple[str, list[tuple[str, int]]]:
    """The question and the steps of the chosen path, each with its rating."""
    path = []
    for step in row.part("label").parts("steps"):
        completions = step.parts("completions") if step.values.get("completions") is not None else []
        chosen, human = step.values.get("chosen_completion"), step.values.get("human_completion")
        if chosen is not None:
            if isinstance(chosen, bool) or not isinstance(chosen, int) or not 0 <= chosen < len(completions):
                expected = f"the index of one of {len(completions)} completions"
                raise BadTrajectory(f"{step.where}chosen_completion", expected, described(chosen))
            path.append((completions[chosen].text("text"), _rating(completions[chosen])))
        elif human is not None:
            path.append((step.part("human_completion").text("text"), 1))
        else:
            if completions and completions[0].values.get("rating") is not None:
                path.append((completions[0].text("text"), _rating(completions[0])))
            break
    return row.part("question").text("problem"), path


def _rating(completion: Row) -> int:
    rating = completion.values.get("rating")
    if isinstance(rating, bool) or rating not in _RATINGS:
        raise BadTrajectory(f"{completion.where}rating", "-1, 0 or 1", described(rating))
    return int(rating)


def _finish(label: Row) -> float:
    """1 where the labeller reached the correct answer; the other reasons to finish are that this failed."""
    reason = label.values.get("finish_reason")
    if reason not in ("solution", "found_error", "bad_problem", "give_up"):
        raise BadTrajectory("label.finish_reason", "solution, found_error, bad_problem or give_up", described(reason))
    return float(reason == "solution")


def _says(kept: dict[str, Any], question: str, steps: list[str], labels: list[float], values: dict[int, float]) -> bool:
    """Whether a row has this question and path."""
    try:
        asked, path = _question_and_path(Row(kept))
    except BadTrajectory:
        return False
    return (asked, [text for text, _ in path], [values[rating] for _, rating in path]) == (question, steps, labels)


def _made(question: str, path: list[tuple[str, int]]) -> dict[str, Any]:
    """A row without alternatives."""
    steps = [
        {
            "completions": [{"text": text, "rating": rating, "flagged": None}],
            "human_completion": None,
            "chosen_completion": 0,
        }
        for text, rating in path
    ]
    return {"question": {"problem": question}, "label": {"steps": steps, "finish_reason": None}}
