"""Which parameters of a model are trained, which stay as they are, and how the two make up the model."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from agentprm_jax.models.lora import TRAINED_WHOLE, init_trained, trained_axes, with_adapters
from agentprm_jax.models.lora_config import LoraConfig
from agentprm_jax.training.mesh import parameter_shardings

PyTree = Any
InitParams = Callable[[jax.Array], dict[str, PyTree]]

_ADAPTERS_KEY = 1
"""Folded into the key of the model, so that adapters are drawn independently of it."""


class Parts(NamedTuple):
    """A model cut in two.

    Fields:
        init: makes what is trained from a random key.
        axes: logical axes of what is trained.
        frozen: shapes, dtypes and shardings of what is not, top-level subtrees of the parameters; {} where all is.
        join: (frozen, trained) to the model's parameters; it is traced.
    """

    init: InitParams
    axes: PyTree
    frozen: dict[str, PyTree]
    join: Callable[[PyTree, PyTree], PyTree]


def split(lora: LoraConfig, init_params: InitParams, axes: PyTree, mesh: Mesh) -> Parts:
    """Cuts a model as `lora` says: all is trained where its rank is 0, else adapters and what the base does not have.

    Args:
        lora: rank, targets, scale, and the type of the frozen base.
        init_params: makes the model's parameters from a random key.
        axes: their logical axes.
        mesh: where the frozen base will lie.

    Raises:
        ValueError: as `parameter_shardings` does, naming the path.
    """
    if lora.rank == 0:
        return Parts(init_params, axes, {}, lambda _, trained: trained)

    def init(key: jax.Array) -> dict[str, PyTree]:
        return init_trained(lora, init_params(key), jax.random.fold_in(key, _ADAPTERS_KEY))

    def stays(leaf: Any, sharding: Any) -> jax.ShapeDtypeStruct:
        dtype = leaf.dtype if lora.base_dtype == "stored" else lora.base_dtype
        return jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=sharding)

    shapes = jax.eval_shape(init_params, jax.random.key(0))
    abstract = jax.tree.map(stays, shapes, parameter_shardings(mesh, axes, shapes))
    return Parts(
        init,
        trained_axes(lora, axes),
        {name: subtree for name, subtree in abstract.items() if name not in TRAINED_WHOLE},
        lambda frozen, trained: with_adapters(lora, frozen, trained),
    )
