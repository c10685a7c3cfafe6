"""What is said of episodes and tasks that an actor could not play, when all others have been played."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from agentprm_jax.actors.base import ActorUnavailable, ConversationTooLong
from agentprm_jax.search.result import SearchResult

Failure = ActorUnavailable | ConversationTooLong
"""Why nothing came of an episode or a path: no answer, or no room for the first action."""


class EpisodesLeftOut(RuntimeError):
    """Some episodes got no answer however often they were started, or have no room to begin; all others were collected.

    Attributes:
        failures: the last failure of each, by the id of the trajectory that is missing.
        ids: of these trajectories.
    """

    def __init__(self, failures: Mapping[str, Failure], attempts: int):
        """Takes the failures, and how often an episode without an answer was started."""
        self.failures = dict(failures)
        self.ids = tuple(failures)
        refused = [name for name, failure in failures.items() if isinstance(failure, ActorUnavailable)]
        long = [name for name in self.ids if name not in set(refused)]
        sentences = []
        if refused:
            sentences.append(
                f"{len(refused)} episodes were left out after {attempts} attempts each, because the actor gave no "
                f"answer: {_shown(refused)}. Collect again to play these. The last failure: {failures[refused[-1]]}"
            )
        if long:
            sentences.append(
                f"{len(long)} episodes were left out, because not even their first action has room in the actor's "
                f"context: {_shown(long)}. Give the actor more room, or collect other tasks. {failures[long[-1]]}"
            )
        super().__init__(" ".join([*sentences, "All other episodes were collected."]))


class TasksLeftOut(RuntimeError):
    """A search came to no result for some tasks, because the actor could not play them; it did for all others.

    Attributes:
        failures: the last failure of each, by task.
        results: of all other tasks, in their order.
    """

    def __init__(self, failures: Mapping[str, Failure], results: Sequence[SearchResult]):
        """Takes the failures and what was found."""
        self.failures = dict(failures)
        self.results = list(results)
        super().__init__(
            f"{len(failures)} of {len(failures) + len(results)} tasks have no result, because the actor gave no answer "
            f"or has no room for the first action: {_shown(self.failures)}. The error's `results` are those of the "
            f"others. The last failure: {list(failures.values())[-1]}"
        )


def _shown(names: Iterable[str]) -> str:
    """The first few names, and how many more there are."""
    first, rest = list(names)[:3], list(names)[3:]
    return ", ".join(first) + (f" and {len(rest)} more" if rest else "")
