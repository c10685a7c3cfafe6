"""What the formats of step supervision share: a question, the steps of one solution, and a label for each.

A label says how good things stand after the step: that it is correct, or that a solution can be reached from it. That
is a value, so it is read as the promise of a scorer (named ``label`` unless the caller names it), not as a reward:
rewards add up to the outcome, and four correct steps are not worth four times as much as one. The same place holds the
scores of a trained PRM, so its judgements are written as labels by naming it as the scorer, and compared with the
labels by name. Progress is the difference of consecutive labels; before the first step the file has none, so there it
is 0.
"""

import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from agentprm_jax.data.formats.options import CannotHold, Options
from agentprm_jax.data.formats.rows import Row, as_number
from agentprm_jax.data.formats.values import described
from agentprm_jax.data.record import BadTrajectory, Message, RecordedScores, Trajectory

LABEL = "label"


def solved_by_steps(
    question: str,
    steps: Sequence[str],
    labels: Sequence[float],
    *,
    name: str,
    form: str,
    options: Options,
    outcome: float,
    extra: dict[str, Any],
) -> Trajectory:
    """A question and the labelled steps of a solution as a trajectory.

    Args:
        question: What was asked.
        steps: The steps.
        labels: One label a step.
        name: Name of the trajectory.
        form: Name of the format, which is also the environment unless the options name another.
        options: The caller's choices.
        outcome: The final reward.
        extra: What else the row holds.

    Returns:
        The trajectory: the question is the user's message, each step an action.
    """
    env = form if options.env is None else options.env
    return Trajectory(
        id=name,
        env=env,
        task=question_task(env, question),
        split=options.split,
        messages=(Message("user", question), *(Message("assistant", step, True) for step in steps)),
        rewards=final_reward(len(steps), outcome),
        outcome=outcome,
        ended=options.ended,
        scores={LABEL if options.scorer is None else options.scorer: as_scores(labels)},
        extra={form: extra} if extra else {},
    )


def question_task(env: str, question: str) -> str:
    """A task id that solutions of the same question share: their mean outcome is what the question is worth."""
    return f"{env}_{hashlib.sha256(question.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def final_reward(steps: int, outcome: float) -> tuple[float, ...]:
    """Rewards of an episode that pays at its end only."""
    return (*[0.0] * (steps - 1), outcome) if steps else ()


def as_scores(labels: Sequence[float]) -> RecordedScores:
    """Labels as promises, with what each step added to them as progress."""
    progress = [after - before for before, after in zip([*labels[:1], *labels[:-1]], labels, strict=True)]
    return RecordedScores(tuple(labels), tuple(progress))


def question_and_steps(trajectory: Trajectory, form: str) -> tuple[str, list[str]]:
    """The question and the steps of a trajectory that is nothing else.

    Raises:
        CannotHold: If anything but one message of the user followed by actions was said.
    """
    first, rest = trajectory.messages[:1], trajectory.messages[1:]
    if not first or first[0].role != "user":
        got = f"a message of the {first[0].role}" if first else "nothing"
        raise CannotHold(trajectory, form, f"it holds one question of the user and then steps, but {got} comes first")
    for index, message in enumerate(rest, start=1):
        if not message.action:
            raise CannotHold(
                trajectory,
                form,
                f"it holds one question of the user and then steps only, with no observations between them, but "
                f"message {index} is no step (role {message.role})",
            )
    return first[0].content, [message.content for message in rest]


def named_scorer(trajectory: Trajectory, form: str, scorer: str | None) -> str:
    """The scorer whose promises are to be the labels.

    Raises:
        CannotHold: If the trajectory has no scores of that name, or several and none was named.
    """
    names = sorted(trajectory.scores)
    if scorer is None and len(names) == 1:
        return names[0]
    if scorer is None:
        got = f"it has scores of {', '.join(names)}: name one with scorer=" if names else "it has none"
        raise CannotHold(trajectory, form, f"each step needs a label, and {got}")
    if scorer not in trajectory.scores:
        raise CannotHold(
            trajectory, form, f"each step needs a label, and it has no scores of {scorer}, only {names or 'none'}"
        )
    return scorer


def read_labels(
    row: Row, key: str, steps: int, words: Mapping[str, float] | Mapping[bool, float]
) -> tuple[list[float], bool]:
    """The labels of a row, as floats.

    Args:
        row: The row.
        key: Where they stand.
        steps: How many there should be.
        words: What else than a number stands for a label: texts, or true and false.

    Returns:
        One label a step, and whether the row says them in words.

    Raises:
        BadTrajectory: If they are not all numbers and not all of the words, or not as many as the steps.
    """
    found = row.values.get(key)
    if not isinstance(found, list) or len(found) != steps:
        got = f"{len(found)} labels" if isinstance(found, list) else repr(found)
        raise BadTrajectory(f"{row.where}{key}", f"one label a step, {steps}", got)
    in_words = bool(found) and isinstance(found[0], type(next(iter(words))))
    reading = functools.partial(_in_words, words=words) if in_words else as_number
    return [reading(value, f"{row.where}{key}[{index}]") for index, value in enumerate(found)], in_words


def _in_words(value: Any, field: str, words: Mapping[Any, float]) -> float:
    """What a word stands for; told by its type, because True == 1."""
    if type(value) is not type(next(iter(words))) or value not in words:
        raise BadTrajectory(
            field, f"one of {', '.join(map(described, words))}, or numbers throughout", described(value)
        )
    return words[value]


def written_labels(labels: Sequence[float], words: Mapping[Any, float], *, in_words: Any) -> list[Any]:
    """The labels as numbers, or in words if they were read so and all still are such."""
    said = {number: word for word, number in words.items()}
    return [said[label] for label in labels] if in_words is True and said.keys() >= {*labels} else [*labels]


def known_columns(trajectory: Trajectory, form: str) -> dict[str, Any]:
    """The columns that a reader of the same format kept because the record has no place for them."""
    kept = trajectory.extra.get(form)
    return kept if isinstance(kept, dict) else {}
