"""Functions that worker processes call in tests."""

import errno
import os
import pathlib
import time


def write(path, text):
    """Writes a file and says so."""
    print(f"writing {text}")
    pathlib.Path(path).write_text(text)


def write_variable(path, name):
    """Writes an environment variable of the worker."""
    pathlib.Path(path).write_text(os.environ[name])


def copy(source, target):
    """Copies a file that must be there."""
    pathlib.Path(target).write_text(pathlib.Path(source).read_text())


def fail():
    """Fails."""
    raise ValueError("no such luck")


def fill():
    """Fails as on a full disk."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def wait(started, stopped):
    """Waits to be interrupted, and says that it was."""
    pathlib.Path(started).write_text("")
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        pathlib.Path(stopped).write_text("interrupted")
        raise


def save_slowly(started, saving, stopped):
    """Waits to be interrupted, and then to be interrupted while it saves."""
    try:
        wait(started, saving)
    except KeyboardInterrupt:
        wait(started, stopped)


def save_for_a_second(started, interrupted, saved):
    """Waits to be interrupted, and then takes a second to save."""
    try:
        wait(started, interrupted)
    except KeyboardInterrupt:
        time.sleep(1)
        pathlib.Path(saved).write_text("")
        raise
