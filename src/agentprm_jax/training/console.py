"""Where a run speaks to whoever may have left."""

import os

from rich.console import Console


class LastingConsole(Console):
    """A console that shows nothing any more when its reader has gone, where another one would end the process.

    `train_prm.py 2>&1 | tee log` loses its reader by the Ctrl-C after which it still has to save.
    """

    def on_broken_pipe(self) -> None:
        """Goes on; what is left in the stream's buffer goes nowhere."""
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)
