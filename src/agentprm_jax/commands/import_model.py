"""`agentprm import`: a language model or a one-label classifier from elsewhere, for every command of this project."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

if TYPE_CHECKING:
    from agentprm_jax.models.config import DecoderConfig
    from agentprm_jax.models.forward import Params
    from agentprm_jax.scoring.prm_files import PrmRecord


@dataclass(frozen=True)
class ImportConfig:
    """Import a language model or a one-label classifier in Hugging Face's layout, or a GGUF file.

    A language model becomes the folder of an actor; a classifier becomes that of a PRM, which needs --name, --method
    and --initial-value. What the decoder does not support is refused by name.
    """

    model: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="MODEL")]
    """Folder with config.json, safetensors and tokenizer, or a .gguf file."""
    output: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUTPUT")]
    """Folder to write; it must not be there yet."""
    name: str | None = None
    """Classifier only: name under which its scores are written."""
    method: str | None = None
    """Classifier only: how it was trained, such as agentprm, pvm, orm, or a name of your own."""
    initial_value: float | None = None
    """Classifier only: outcome to expect before the first action, the mean outcome of its training trajectories."""
    chat_template: Path | None = None
    """File with a Jinja template that replaces the tokenizer's, where that does not write every turn by itself. Qwen3
    needs none: one that keeps the thoughts of earlier turns comes along."""

    dtype: Literal["stored", "bfloat16", "float32"] = "stored"
    """Type of the decoder's weights and activations: that of the file (float32 of a GGUF file), or another."""

    @property
    def interrupted(self) -> str:
        """What Ctrl-C leaves."""
        return f"Nothing was written to {self.output}: run the same command again."


def main(config: ImportConfig) -> None:
    """Reads the model, checks that the tokenizer fits it, and writes both."""
    from agentprm_jax.actors import read_stop_tokens
    from agentprm_jax.data.tokenizer_files import load_encoder, save_with_tokenizer
    from agentprm_jax.data.writing import whole_folder
    from agentprm_jax.models import load_pretrained
    from agentprm_jax.reporting.training_notes import TRAINING, notes_of_import
    from agentprm_jax.scoring.prm_files import save_prm
    from agentprm_jax.training.record import write_record

    with whole_folder(config.output) as folder:
        decoder, params = load_pretrained(config.model)
        if config.dtype != "stored":
            decoder, params = _in_dtype(config.dtype, decoder, params)
        template = None if config.chat_template is None else _template(config.chat_template)
        encoder = load_encoder(config.model, vocab_size=decoder.vocab_size, chat_template=template)
        if "value_head" in params:
            record = _record(config, notes_of_import(config.model))
            save_prm(folder, decoder, params, encoder, record)
            kind = f"PRM {record.name}"
        else:
            _refuse_record(config)
            save_with_tokenizer(folder, decoder, params, encoder, read_stop_tokens(config.model))
            write_record(folder / TRAINING, notes_of_import(config.model))
            kind = "actor"
    print(
        f"{config.output}: {kind} with {decoder.layers} layers of width {decoder.embed}, {decoder.vocab_size:,} token "
        f"ids, up to {decoder.max_positions:,} tokens, weights in {decoder.param_dtype}."
    )


def _template(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"--chat-template {path}: expected a file with a Jinja template, got none.") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"--chat-template {path}: expected a Jinja template in UTF-8: {error}.") from error


def _in_dtype(dtype: str, decoder: DecoderConfig, params: Params) -> tuple[DecoderConfig, Params]:
    """The model in another type; a value head stays float32."""
    import jax

    others = {name: subtree for name, subtree in params.items() if name != "value_head"}
    cast = jax.tree.map(lambda weight: weight.astype(dtype), others)
    return replace(decoder, dtype=dtype, param_dtype=dtype), {**params, **cast}


def _record(config: ImportConfig, notes: dict[str, Any]) -> PrmRecord:
    from agentprm_jax.scoring.prm_files import PrmRecord

    if config.name is None or config.method is None or config.initial_value is None:
        raise ValueError(
            f"{config.model} is a classifier, which says neither what it is called nor how it was trained nor what to "
            "expect before the first action: expected --name, --method and --initial-value, got "
            f"{_given(config) or 'none of them'}."
        )
    return PrmRecord(name=config.name, method=config.method, initial_value=config.initial_value, training=notes)


def _refuse_record(config: ImportConfig) -> None:
    if given := _given(config):
        raise ValueError(
            f"{config.model} is a language model, which becomes an actor: expected none of --name, --method and "
            f"--initial-value, got {given}. A PRM is made of it by experiments/train_prm.py."
        )


def _given(config: ImportConfig) -> str:
    flags = {"--name": config.name, "--method": config.method, "--initial-value": config.initial_value}
    return ", ".join(flag for flag, value in flags.items() if value is not None)
