"""The end of a training run: the whole model in the memory of the host, and its adapter, if any, on disk."""

import pathlib
from typing import Any

import jax

from agentprm_jax.models.config import DecoderConfig
from agentprm_jax.models.lora import merge_adapters
from agentprm_jax.models.lora_config import LoraConfig
from agentprm_jax.models.lora_files import save_adapter
from agentprm_jax.training.distributed import all_or_none, whole_on_host

PyTree = Any
ADAPTER = "adapter"


def finished_model(
    trained: PyTree,
    pretrained: PyTree,
    config: DecoderConfig,
    lora: LoraConfig,
    *,
    init: pathlib.Path | None,
    output: pathlib.Path,
) -> PyTree:
    """Gives the parameters of the model that a run has trained; all processes must call it.

    Adapters are written by the first process into OUTPUT/adapter, and merged into their base.

    Args:
        trained: what `train` gave.
        pretrained: what it was given; read where adapters were trained, beside which it stays as it was.
        config: the decoder.
        lora: whether adapters were trained.
        init: the model that they belong to, for their record.
        output: folder of the run.

    Returns:
        NumPy arrays.

    Raises:
        OSError: the adapter could not be written.
        OtherProcessFailed: the first process could not write it.
    """
    params = whole_on_host(trained)
    if lora.rank == 0:
        return params
    base = whole_on_host(pretrained)
    with all_or_none(f"saving {output / ADAPTER}"):
        if jax.process_index() == 0:
            save_adapter(output / ADAPTER, config, lora, params, base=str(init))
    return merge_adapters(lora, base, params)
