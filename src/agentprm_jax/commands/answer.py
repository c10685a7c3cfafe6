"""How every command answers what stops it: one paragraph that says what to do, and no traceback."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from typing import Any

from agentprm_jax.training.interrupt import INTERRUPTED, NonFiniteUpdate

_EXTRA = "install agentprm-jax["
"""Part of the message where a package of an extra is missing; other missing modules are errors of programming."""
_FULL = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))


def run_command(main: Callable[..., Any], config: Any, interrupted: str | None = None) -> None:
    """Calls `main(config)`; what is no error of programming ends the process with its message alone.

    That is an error of input or files, a full disk, a training that diverges, and a package that an extra would have
    installed. Errors of programming keep their traceback. The exit status of an answer is 1, and of what Ctrl-C ends
    `INTERRUPTED`.

    Args:
        main: the command.
        config: its settings.
        interrupted: what Ctrl-C leaves, in a sentence; None for a command that keeps what is finished in
            `config.output`.
    """
    try:
        main(config)
    except KeyboardInterrupt:
        kept = interrupted or f"What was finished is kept in {config.output}: run the same command again to go on."
        _say(f"\nInterrupted. {kept}")
        sys.exit(INTERRUPTED)
    except (ValueError, OSError, RuntimeError, NonFiniteUpdate) as error:
        sys.exit(f"\n{answer(error)}")
    except ImportError as error:
        if _EXTRA not in error.msg:
            raise
        sys.exit(f"\n{answer(error)}")


def _say(text: str) -> None:
    from agentprm_jax.training.console import LastingConsole

    LastingConsole(stderr=True).print(text, highlight=False, markup=False, emoji=False, soft_wrap=True)


def answer(error: BaseException) -> str:
    """The kind of an error and its message; with advice where a full disk speaks in the system's own words."""
    text = f"{type(error).__name__}: {error}"
    bare = isinstance(error, OSError) and error.strerror in _FULL
    return f"{text}. Make room, then run the same command again." if bare else text
