"""What an actor has spent on a collection, added up over interruptions in a file beside the trajectories."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agentprm_jax.actors.base import Actor
from agentprm_jax.data.trajectory import iterate_trajectories
from agentprm_jax.training.record import write_record

SPENT_FILE = "spent.json"


@contextmanager
def accounted(actor: Actor, trajectories: Path) -> Iterator[None]:
    """Adds what the actor spends inside to the account beside a file of trajectories, also when it is interrupted.

    Tokens are wasted where they were sampled for no trajectory that was added to the file: for episodes that were
    interrupted, started anew or left out, and for answers that could not be used. A kill loses what its process spent.

    Args:
        actor: who plays inside.
        trajectories: the file to which its trajectories are added inside.

    Raises:
        OSError: the account cannot be written.
    """
    before, kept_before = actor.usage, _sampled_tokens(trajectories)

    def add() -> None:
        after = actor.usage
        sampled = after.sampled_tokens - before.sampled_tokens
        spent = {
            "tokens_read": after.prompt_tokens - before.prompt_tokens,
            "tokens_cached": after.cached_tokens - before.cached_tokens,
            "tokens_wasted": max(0, sampled - (_sampled_tokens(trajectories) - kept_before)),
        }
        if any(spent.values()):
            account = read_account(trajectories.parent)
            total = {name: account.get(name, 0) + count for name, count in spent.items()}
            write_record(trajectories.parent / SPENT_FILE, total)

    try:
        yield
    except BaseException:
        with suppress(OSError):  # on a full disk what the error says matters, and not that it cannot be noted
            add()
        raise
    add()


def read_account(folder: Path) -> dict[str, int]:
    """What was spent on the collection of a folder, as counting fields of `Stage`; empty where nothing is known."""
    path = folder / SPENT_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _sampled_tokens(trajectories: Path) -> int:
    return sum(one.actor.sampled_tokens for one in iterate_trajectories(trajectories) if one.actor)
