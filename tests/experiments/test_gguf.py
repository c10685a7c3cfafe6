"""A GGUF file is a model for every command that begins with one, and for the others a hint says how to make it one."""

from dataclasses import replace
from functools import partial

import collect
import pytest
import sft
import train_prm
from tiny_runs import trajectories

from agentprm_jax.actors.config import SamplerConfig
from agentprm_jax.commands.model_folder import find_model
from agentprm_jax.data.trajectory import read_trajectories
from agentprm_jax.data.writing import write_trajectories
from agentprm_jax.envs.config import EnvironmentConfig, TaskConfig
from agentprm_jax.models import load_pretrained
from agentprm_jax.scoring import Prm
from agentprm_jax.training.config import LoopConfig
from tests.data.made_tokenizers import CHATML, train_byte_pairs
from tests.models.made_gguf import add_tokenizer, tensors_of, write_gguf
from tests.models.tiny_models import BIASED, language_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A language model of two layers with its tokenizer."""
    path, tokenizer = tmp_path_factory.mktemp("gguf") / "tiny.gguf", train_byte_pairs()
    config = replace(BIASED, vocab_size=len(tokenizer), max_positions=512)
    add = partial(add_tokenizer, tokenizer=tokenizer, template=CHATML)
    write_gguf(path, config, tensors_of(config, language_model(config)), tokenizer=add)
    return path


@pytest.mark.parametrize(("script", "config"), [(sft, sft.SftConfig), (train_prm, train_prm.TrainPrmConfig)])
def test_training_begins_with_it(model, tmp_path, script, config):
    write_trajectories(tmp_path / "t.jsonl", trajectories(4))
    loop = LoopConfig(steps=1, rows_per_batch=2)
    script.main(config(tmp_path / "t.jsonl", init=model, output=tmp_path / "run", loop=loop))
    trained = tmp_path / "run" / "model"
    assert load_pretrained(trained)[0].qkv_bias
    assert (script is sft) or len(Prm.load(trained).score(trajectories(2))) == 2


def test_it_acts(model, tmp_path):
    config = collect.CollectConfig(
        output=tmp_path / "pool",
        actor=str(model),
        environment=EnvironmentConfig(name="textcraft", max_rounds=1),
        tasks=TaskConfig(count=1),
        max_tokens=2,
        sampler=SamplerConfig(slots=1, rows=1, smallest_rows=1, capacity=512, max_tokens=2, prefill_lengths=(256,)),
    )
    collect.main(config)
    (played,) = read_trajectories(tmp_path / "pool" / "trajectories.jsonl")
    assert played.actor.name == "tiny"


def test_a_command_that_wants_a_folder_says_how_to_make_one(model):
    with pytest.raises(FileNotFoundError, match="got a GGUF file: make a folder of it with `agentprm import`"):
        find_model(model)
