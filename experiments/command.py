"""How every experiment answers what stops it: one paragraph that says what to do, and no traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def run_command(main: Callable[..., Any], config: Any) -> None:
    """Calls `main(config)`; an error of input, files or a full disk ends the process with its message alone.

    Errors of programming keep their traceback.
    """
    try:
        main(config)
    except KeyboardInterrupt:
        sys.exit(f"\nInterrupted. What was finished is kept in {config.output}: run the same command again to go on.")
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"\n{type(error).__name__}: {error}")
