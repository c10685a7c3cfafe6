"""A small PRM and trajectories on the disk, and `agentprm` in this process."""

import jax
import pytest

from agentprm_jax.commands.main import main
from agentprm_jax.data import write_trajectories
from agentprm_jax.models import init_language_model
from tests.scoring.conftest import decoder_config, encoder, prm, trajectories

__all__ = ["decoder_config", "encoder", "prm", "trajectories"]


@pytest.fixture(scope="session")
def language_params(decoder_config):
    return init_language_model(decoder_config, jax.random.key(0))


@pytest.fixture
def prm_folder(prm, tmp_path):
    prm.save(tmp_path / "prm")
    return tmp_path / "prm"


@pytest.fixture
def file(trajectories, tmp_path):
    """A file of nine trajectories."""
    path = tmp_path / "some.jsonl"
    write_trajectories(path, trajectories(9))
    return path


@pytest.fixture
def agentprm(capsys):
    """Runs the command: `agentprm("show", path)` gives (exit status, what was said in one line)."""

    def run(*words):
        try:
            main([str(word) for word in words])
            status = 0
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
            said = stop.code if isinstance(stop.code, str) else ""
        else:
            said = ""
        out, err = capsys.readouterr()
        return status, " ".join(f"{out} {err} {said}".split())

    return run
