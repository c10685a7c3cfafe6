"""Keeps a second process away from a file, or from what the file stands for."""

import fcntl
import logging
from typing import IO

_LOG = logging.getLogger(__name__)


def take_lock(file: IO[bytes]) -> bool:
    """Takes the lock of an open file until the file is closed or the process ends, however that ends.

    Some network file systems have no locks: work goes on there, unguarded.

    Returns:
        False where another process holds the lock.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        _LOG.info("%s cannot be locked: %s", file.name, error)
    return True
