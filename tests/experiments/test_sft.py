"""An actor that is made of a pretrained model, by the real command."""

import subprocess
import sys

from tiny_runs import SCRIPT, make_inputs

from agentprm_jax.actors import read_stop_tokens
from agentprm_jax.data.tokenizer_files import load_encoder
from agentprm_jax.models import load_pretrained


def test_an_actor_ends_at_every_token_at_which_the_model_does_that_it_was_made_from(tmp_path):
    inputs = make_inputs(tmp_path)
    (inputs / "init" / "generation_config.json").write_text('{"eos_token_id": [2, 5, 7], "temperature": 0.6}')
    given = {"trajectories": inputs / "trajectories.jsonl", "init": inputs / "init", "output": tmp_path / "run"}
    sizes = {"loop.steps": 1, "loop.rows-per-batch": 8, "row-length": 64}
    flags = [str(part) for name, value in (given | sizes).items() for part in (f"--{name}", value)]
    done = subprocess.run(
        [sys.executable, str(SCRIPT.parent / "sft.py"), *flags], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    model = tmp_path / "run" / "model"
    encoder = load_encoder(model, vocab_size=load_pretrained(model)[0].vocab_size)
    assert read_stop_tokens(model) == (encoder.end_of_turn_id, 5, 7)
