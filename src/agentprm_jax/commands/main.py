"""The console command `agentprm`: reads the command line and calls the subcommand."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Annotated

import tyro

from agentprm_jax.commands.answer import run_command
from agentprm_jax.commands.convert import ConvertConfig
from agentprm_jax.commands.export import ExportConfig
from agentprm_jax.commands.import_model import ImportConfig
from agentprm_jax.commands.score import ScoreConfig
from agentprm_jax.commands.show import ShowConfig

Command = (
    Annotated[ConvertConfig, tyro.conf.subcommand("convert")]
    | Annotated[ScoreConfig, tyro.conf.subcommand("score")]
    | Annotated[ExportConfig, tyro.conf.subcommand("export")]
    | Annotated[ImportConfig, tyro.conf.subcommand("import")]
    | Annotated[ShowConfig, tyro.conf.subcommand("show")]
)
"""What can be asked; each class stands in the file of its subcommand, beside the `main` that does it."""

DESCRIPTION = "Trajectories and process reward models: convert, score, export, import and show."


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one subcommand.

    Args:
        arguments: the words after `agentprm`; None takes those of the process.

    Raises:
        SystemExit: with status 2 for a command line that cannot be read, with 1 and a message for what stops a command.
    """
    config = tyro.cli(Command, prog="agentprm", description=DESCRIPTION, args=arguments)  # pyright: ignore
    run_command(importlib.import_module(type(config).__module__).main, config, interrupted=config.interrupted)
