"""The state of a training run, and how it comes to lie on the mesh."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from agentprm_jax.training.mesh import parameter_shardings, path_name, replicated

PyTree = Any
InitParams = Callable[[jax.Array], dict[str, PyTree]]


class TrainState(NamedTuple):
    """Everything that an update changes.

    Fields:
        step: int32 scalar, number of updates made.
        params: nested dict of parameter arrays.
        opt_state: the optimizer's state, moments of the shapes of `params`.
    """

    step: Any
    params: PyTree
    opt_state: PyTree


def abstract_state(
    mesh: Mesh, init_params: InitParams, optimizer: optax.GradientTransformation, axes: PyTree
) -> TrainState:
    """Gives shape, dtype and sharding of the whole state without computing any of it.

    Args:
        mesh: the mesh.
        init_params: makes the parameters from a random key.
        optimizer: its moments lie like the parameters they belong to; its counters are replicated.
        axes: logical axes of the parameters, as `models.logical_axes` gives them.

    Returns:
        A `TrainState` of `jax.ShapeDtypeStruct`.

    Raises:
        ValueError: as `parameter_shardings` and `decay_mask` do, naming the path.
    """
    params = jax.eval_shape(init_params, jax.random.key(0))
    shardings = parameter_shardings(mesh, axes, params)
    everywhere = replicated(mesh)
    opt_state = optax.tree_map_params(
        optimizer,
        _with_sharding,
        jax.eval_shape(optimizer.init, params),
        shardings,
        transform_non_params=lambda leaf: _with_sharding(leaf, everywhere),
        is_leaf=_is_masked,
    )
    step = jax.ShapeDtypeStruct((), jnp.int32, sharding=everywhere)
    return TrainState(step, jax.tree.map(_with_sharding, params, shardings), opt_state)


def make_init(
    init_params: InitParams, optimizer: optax.GradientTransformation, abstract: TrainState
) -> Callable[[jax.Array, Mapping[str, PyTree]], TrainState]:
    """Compiles `init(key, pretrained) -> state`, which makes every array where it will lie.

    `pretrained` holds top-level subtrees of the parameters, such as {"decoder": ...}, that take the place of random
    ones (which XLA then never computes); {} starts from nothing.
    """

    def init(key: jax.Array, pretrained: Mapping[str, PyTree]) -> TrainState:
        params = {**init_params(key), **pretrained}
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))

    compiled = jax.jit(init, out_shardings=state_shardings(abstract))

    def place_and_init(key: jax.Array, pretrained: Mapping[str, PyTree]) -> TrainState:
        return compiled(key, place_pretrained(pretrained, abstract.params))

    return place_and_init


def place_pretrained(pretrained: Mapping[str, PyTree], abstract_params: Mapping[str, PyTree]) -> dict[str, PyTree]:
    """Puts given subtrees of the parameters where the run wants them.

    Raises:
        ValueError: if a subtree is not part of the parameters or differs from them in a path, a shape or a dtype.
    """
    unknown = sorted(pretrained.keys() - abstract_params.keys())
    if unknown:
        raise ValueError(
            f"Pretrained parameters have the unknown subtree {unknown[0]!r}; known are {[*abstract_params]}."
        )
    return {name: _place(name, subtree, abstract_params[name]) for name, subtree in pretrained.items()}


def state_shardings(abstract: PyTree) -> PyTree:
    """Takes the shardings out of a tree of `jax.ShapeDtypeStruct`."""
    return jax.tree.map(lambda leaf: leaf.sharding, abstract)


def _place(name: str, given: PyTree, wanted: PyTree) -> PyTree:
    given_leaves = {path_name(path): leaf for path, leaf in jax.tree.leaves_with_path(given)}
    wanted_leaves = {path_name(path): leaf for path, leaf in jax.tree.leaves_with_path(wanted)}
    for path in sorted(given_leaves.keys() | wanted_leaves.keys()):
        got, expected = (_signature(leaves.get(path)) for leaves in (given_leaves, wanted_leaves))
        if got != expected:
            raise ValueError(f"Pretrained parameter {name}/{path}: expected {expected}, got {got}.")
    return jax.tree.map(_put, given, wanted)


def _put(leaf: Any, like: Any) -> jax.Array:
    """Every process puts its own parts on its own devices: nothing is sent, compared or held twice."""
    host = np.asarray(leaf)
    return jax.make_array_from_callback(host.shape, like.sharding, lambda index: host[index])


def _signature(leaf: Any) -> str:
    return "nothing" if leaf is None else f"{leaf.dtype}{list(leaf.shape)}"


def _is_masked(node: Any) -> bool:
    """Whether an optimizer that treats parameters differently has no moment for this one."""
    return isinstance(node, optax.MaskedNode)


def _with_sharding(leaf: Any, sharding: Any) -> Any:
    if _is_masked(leaf):
        return leaf
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
