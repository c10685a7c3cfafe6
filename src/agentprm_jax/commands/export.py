"""`agentprm export`: a model for other libraries and servers, with a card that says what it is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from agentprm_jax.commands.model_folder import ModelFolder, find_model
from agentprm_jax.commands.own_evaluation import find_evaluation

if TYPE_CHECKING:
    import numpy as np

    from agentprm_jax.models.config import DecoderConfig
    from agentprm_jax.models.forward import Params
    from agentprm_jax.reporting.results import Results

CARD = "README.md"


@dataclass(frozen=True)
class ExportConfig:
    """Export a PRM or an actor so that `transformers` and other servers load it.

    A PRM is written as *ForSequenceClassification with one label, an actor as *ForCausalLM; tokenizer, chat template
    and a model card (README.md) lie beside it. All commands of this project load the folder, too.
    """

    model: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="MODEL")]
    """Folder of a PRM or an actor, or of the run that trained it."""
    output: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUTPUT")]
    """Folder to write; it must not be there yet."""
    dtype: Literal["keep", "float32", "bfloat16", "float16"] = "keep"
    """Type in which the weights are written; `keep` takes that of the model."""
    evaluation: Path | None = None
    """Folder of an evaluation of the model (evaluate.py), or its results.json, for the card; unset takes one beside the
    run, if there is one."""
    license: str = "unknown"
    """Licence of the model for the card's metadata, as hubs spell it, such as apache-2.0."""
    base_model: str | None = None
    """Name, on a hub, of the model that training began with, for the card's metadata."""

    @property
    def interrupted(self) -> str:
        """What Ctrl-C leaves."""
        return f"Nothing was written to {self.output}: run the same command again."


def main(config: ExportConfig) -> None:
    """Writes the folder."""
    from agentprm_jax.data.writing import whole_folder
    from agentprm_jax.scoring.prm_files import PRM

    found = find_model(config.model)
    results = find_evaluation(config.evaluation, found)
    with whole_folder(config.output) as folder:
        write = _export_prm if (found.model / PRM).is_file() else _export_actor
        kind = write(config, found, results, folder)
    evaluated = "its evaluation" if results else "the word that it was not evaluated (give one with --evaluation)"
    print(f"{config.output}: {kind} with tokenizer, chat template and {CARD}, which holds {evaluated}.")


def _export_prm(config: ExportConfig, found: ModelFolder, results: Results | None, folder: Path) -> str:
    from agentprm_jax.reporting.model_card import own_rows, prm_card
    from agentprm_jax.scoring.prm_files import load_prm, save_prm

    decoder, params, encoder, record = load_prm(found.model)
    if results and not own_rows(results, record):
        raise ValueError(
            f"The evaluation {config.evaluation or 'beside the run'} has no row of {record.name}: expected one of the "
            "method that trained this PRM. Give another with --evaluation."
        )
    decoder, params = _cast(decoder, params, config.dtype)
    save_prm(folder, decoder, params, encoder, record)
    notes = record.training or _run_settings(found)
    card = prm_card(config.output.name, record, notes, encoder, decoder.max_positions, results, _licence(config))
    (folder / CARD).write_text(card, encoding="utf-8")
    return f"PRM {record.name} as a one-label classifier"


def _export_actor(config: ExportConfig, found: ModelFolder, results: Results | None, folder: Path) -> str:
    from agentprm_jax.actors import read_stop_tokens
    from agentprm_jax.data.tokenizer_files import load_encoder, save_with_tokenizer
    from agentprm_jax.models import load_pretrained
    from agentprm_jax.reporting.model_card import ACTOR_ROWS, actor_card, has_rows
    from agentprm_jax.reporting.training_notes import TRAINING, read_notes
    from agentprm_jax.training.record import write_record

    if results and not has_rows(results, ACTOR_ROWS):
        raise ValueError(
            f"The evaluation {config.evaluation or 'beside the run'} has no row of the actor by itself: expected "
            f"{' or '.join(ACTOR_ROWS)} in a table. Give another with --evaluation."
        )
    decoder, params = load_pretrained(found.model)
    if "value_head" in params:
        raise ValueError(
            f"{found.model} holds a classifier without prm.json, so its name, method and initial value are not known: "
            "expected a PRM or a language model. Make it a PRM with `agentprm import`."
        )
    encoder = load_encoder(found.model, vocab_size=decoder.vocab_size)
    decoder, params = _cast(decoder, params, config.dtype)
    save_with_tokenizer(folder, decoder, params, encoder, read_stop_tokens(found.model))
    if kept := read_notes(found.model):
        write_record(folder / TRAINING, kept)
    notes = kept or _run_settings(found)
    card = actor_card(config.output.name, notes, encoder, decoder.max_positions, results, _licence(config))
    (folder / CARD).write_text(card, encoding="utf-8")
    return "actor as a language model"


def _licence(config: ExportConfig) -> Any:
    from agentprm_jax.reporting.model_card import Licence

    return Licence(config.license, config.base_model)


def _cast(decoder: DecoderConfig, params: Params, dtype: str) -> tuple[DecoderConfig, Params]:
    """The weights in another type; a value head stays float32 until it is written.

    Raises:
        ValueError: the type cannot hold a weight; names the tensor.
    """
    if dtype in ("keep", decoder.param_dtype):
        return decoder, params
    import dataclasses

    from flax.traverse_util import unflatten_dict

    from agentprm_jax.models.parameters import leaves_by_path
    from agentprm_jax.models.weight_names import tensor_names, weight_table

    given = leaves_by_path(params)
    cast = {
        weight.path: _narrowed(given[weight.path], dtype, tensor_names(decoder, weight))
        for weight in weight_table(decoder, value_head="value_head" in params)
        if weight.path[0] != "value_head"
    }
    return dataclasses.replace(decoder, param_dtype=dtype), unflatten_dict({**given, **cast})


def _narrowed(parameter: Any, dtype: str, names: list[str]) -> np.ndarray:
    """A parameter, or those of all blocks, whose tensors have these names, in another type."""
    import jax.numpy as jnp
    import numpy as np

    wide = np.asarray(parameter)
    with np.errstate(over="ignore"):
        cast = wide.astype(jnp.dtype(dtype))
    lost = np.argwhere(np.isinf(cast) & np.isfinite(wide))
    if len(lost):
        most, got = float(jnp.finfo(dtype).max), float(wide[tuple(lost[0])])
        raise ValueError(
            f"Tensor {names[lost[0][0] if len(names) > 1 else 0]!r}: expected numbers of at most {most:,.0f}, the "
            f"largest in {dtype}, got {got:,.0f}. Export the model with another --dtype."
        )
    return cast


def _run_settings(found: ModelFolder) -> dict[str, Any]:
    """The settings that the run's folder keeps, for models whose own folder has no notes."""
    from agentprm_jax.reporting.stage import CONFIG_FILE

    if found.run is None:
        return {}
    return {"settings": json.loads((found.run / CONFIG_FILE).read_text(encoding="utf-8"))}
