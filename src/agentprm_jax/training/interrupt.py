"""How a run is asked to stop, and what it answers."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

Stop = Callable[[], str | None]
"""Gives the name of the signal that asked to stop, or None."""


_NOTED = b"Stopping after this update and saving; a second signal stops at once.\n"
ECHO_SECONDS = 5.0
"""A SIGTERM within so many seconds of the first is the same: launchers pass on what the process was sent itself."""
INTERRUPTED = 75
"""Exit code of a run that was asked to stop and has saved its state: EX_TEMPFAIL of sysexits.h, "try again". A run that
is killed without saving has another one (143 in a shell after SIGTERM)."""


class TrainingInterrupted(SystemExit):
    """The run was asked to stop and has saved its state; uncaught, the process ends with code `INTERRUPTED`."""

    def __init__(self, message: str) -> None:
        """Takes what to tell the user."""
        super().__init__(message)
        self.code = INTERRUPTED


class NonFiniteUpdate(ArithmeticError):
    """An update had a loss or a gradient that is not finite; the state is the one before it."""


class Requests:
    """Tells requests to stop from their echoes: a SIGTERM within `ECHO_SECONDS` of the first is none of its own."""

    def __init__(self) -> None:
        """Nothing has been asked yet."""
        self._terminated = -float("inf")

    def is_new(self, number: int) -> bool:
        """Whether a signal that has just come is a request."""
        now = time.monotonic()
        if number != signal.SIGTERM:
            return True
        if now - self._terminated < ECHO_SECONDS:
            return False
        self._terminated = now
        return True


@contextlib.contextmanager
def stop_on_signal(signals: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM)) -> Iterator[Stop]:
    """Within the block, the first signal is noted instead of acted on; a second one acts as it used to.

    An echo is no second one. Only the main thread can take signals; elsewhere the block changes nothing.
    """
    noted: list[str] = []
    requests = Requests()
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return

    def note(number: int, frame: FrameType | None) -> None:
        if not requests.is_new(number):
            return
        if not noted:
            noted.append(signal.Signals(number).name)
            with contextlib.suppress(OSError):  # whoever read it may have had the signal, too
                os.write(2, _NOTED)  # and not print, which fails where the signal has interrupted another print
            return
        restore()
        signal.raise_signal(number)

    def restore() -> None:
        for name, handler in previous.items():
            signal.signal(name, signal.SIG_DFL if handler is None else handler)  # None: it was not Python's

    previous = {name: signal.signal(name, note) for name in signals}
    try:
        yield lambda: noted[0] if noted else None
    finally:
        restore()
