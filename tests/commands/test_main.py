"""`agentprm` as a console command."""

import os
import signal
import subprocess
import sys
import time

import pytest

from agentprm_jax.commands.convert import ConvertConfig
from agentprm_jax.commands.export import ExportConfig
from agentprm_jax.commands.import_model import ImportConfig
from agentprm_jax.commands.main import main
from agentprm_jax.commands.score import ScoreConfig
from agentprm_jax.commands.show import ShowConfig
from agentprm_jax.training.interrupt import INTERRUPTED
from tests.help_text import COLUMNS, check_help

COMMAND = (sys.executable, "-c", "from agentprm_jax.commands.main import main; main()")
SUBCOMMANDS = {
    "convert": ConvertConfig,
    "score": ScoreConfig,
    "export": ExportConfig,
    "import": ImportConfig,
    "show": ShowConfig,
}


def test_a_command_line_that_cannot_be_read_ends_with_status_2(agentprm):
    assert agentprm("show")[0] == 2
    assert agentprm("sing")[0] == 2
    assert agentprm("show", "a.jsonl", "--index", "one")[0] == 2


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_help_explains_every_field(capsys, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", COLUMNS)
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    check_help(capsys.readouterr().out, SUBCOMMANDS[name])


def test_what_stops_a_command_is_answered_without_a_traceback(tmp_path):
    done = subprocess.run([*COMMAND, "show", str(tmp_path / "none.jsonl")], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "none.jsonl" in done.stderr


def test_a_reader_that_closes_the_pipe_is_no_error(file):
    done = subprocess.run(
        f'{sys.executable} -c "{COMMAND[2]}" show {file} | head -c 1', shell=True, capture_output=True, check=False
    )
    assert done.stderr == b""


def test_ctrl_c_is_answered_with_one_sentence_and_leaves_nothing_that_looks_complete(tmp_path):
    fifo, output = tmp_path / "slow.jsonl", tmp_path / "out.jsonl"
    os.mkfifo(fifo)
    words = ("convert", str(fifo), str(output), "--from", "native", "--to", "native")
    process = subprocess.Popen([*COMMAND, *words], stderr=subprocess.PIPE, text=True)
    with open(fifo, "w"):  # the command is reading now
        while not list(tmp_path.glob("*.partial")):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == INTERRUPTED
    assert said.split("\n\n")[-1].strip() == (
        f"Interrupted. Nothing was written to {output}: run the same command again to start over."
    )
    assert list(tmp_path.iterdir()) == [fifo]
