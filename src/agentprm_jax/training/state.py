"""The state of a training run, and how it comes to lie on the mesh."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from agentprm_jax.models.expansion import add_blocks, lower_blocks
from agentprm_jax.training.mesh import parameter_shardings, path_name, replicated
from agentprm_jax.training.parts import InitParams

PyTree = Any
DECODER = "decoder"
"""The subtree of the parameters that a pretrained model gives."""


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
    init_params: InitParams, optimizer: optax.GradientTransformation, abstract: TrainState, extra_blocks: int = 0
) -> Callable[[jax.Array, Mapping[str, PyTree]], TrainState]:
    """Compiles `init(key, pretrained) -> state`, which makes every array where it will lie.

    `pretrained` holds top-level subtrees of the parameters, such as {"decoder": ...}, that take the place of random
    ones (which XLA then never computes); {} starts from nothing. Where they lie on the devices as the state will, they
    become part of it: they are donated, so that the model never lies there twice. A pretrained decoder that gets
    `extra_blocks` on top is copied.
    """

    def init(key: jax.Array, pretrained: Mapping[str, PyTree]) -> TrainState:
        fresh, given = init_params(key), dict(pretrained)
        if extra_blocks and DECODER in given:
            given[DECODER] = add_blocks(given[DECODER], fresh[DECODER])
        params = {**fresh, **given}
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))

    donated = () if extra_blocks else (1,)
    compiled = jax.jit(init, out_shardings=state_shardings(abstract), donate_argnums=donated)
    wanted = dict(abstract.params)
    if extra_blocks:
        wanted[DECODER] = lower_blocks(wanted[DECODER], extra_blocks)

    def place_and_init(key: jax.Array, pretrained: Mapping[str, PyTree]) -> TrainState:
        return compiled(key, place_pretrained(pretrained, wanted))

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
    return {name: _place(name, subtree, abstract_params[name], _signature) for name, subtree in pretrained.items()}


def place_frozen(base: Mapping[str, PyTree], abstract_frozen: Mapping[str, PyTree]) -> dict[str, PyTree]:
    """Puts the parameters that are not trained on the mesh, rounded to the type that they are kept in.

    Raises:
        ValueError: if one is missing, or has another shape than the model's.
    """
    missing = sorted(abstract_frozen.keys() - base.keys())
    if missing:
        raise ValueError(
            f"The subtree {missing[0]!r} of the parameters stays frozen, so it must be pretrained; expected "
            f"{[*abstract_frozen]}, got {[*base]}."
        )
    return {name: _place(name, subtree, abstract_frozen[name], _shape) for name, subtree in base.items()}


def free(tree: PyTree) -> None:
    """Gives the devices' memory of all arrays back, whoever else holds them; arrays of the host stay."""
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, jax.Array):
            leaf.delete()


def state_shardings(abstract: PyTree) -> PyTree:
    """Takes the shardings out of a tree of `jax.ShapeDtypeStruct`."""
    return jax.tree.map(lambda leaf: leaf.sharding, abstract)


def _place(name: str, given: PyTree, wanted: PyTree, signature: Callable[[Any], str]) -> PyTree:
    given_leaves = {path_name(path): leaf for path, leaf in jax.tree.leaves_with_path(given)}
    wanted_leaves = {path_name(path): leaf for path, leaf in jax.tree.leaves_with_path(wanted)}
    for path in sorted(given_leaves.keys() | wanted_leaves.keys()):
        leaves = given_leaves.get(path), wanted_leaves.get(path)
        got, expected = ("nothing" if leaf is None else signature(leaf) for leaf in leaves)
        if got != expected:
            raise ValueError(f"Pretrained parameter {name}/{path}: expected {expected}, got {got}.")
    return jax.tree.map(_put, given, wanted)


def _put(leaf: Any, like: Any) -> jax.Array:
    """A leaf in its type and its place; of the host's, every process puts its own parts on its own devices."""
    cast = leaf.astype(like.dtype, copy=False)
    if isinstance(leaf, jax.Array):
        return jax.device_put(cast, like.sharding)
    return jax.make_array_from_callback(cast.shape, like.sharding, lambda index: cast[index])


def _signature(leaf: Any) -> str:
    return f"{leaf.dtype}{list(leaf.shape)}"


def _shape(leaf: Any) -> str:
    return f"the shape {list(leaf.shape)}"


def _is_masked(node: Any) -> bool:
    """Whether an optimizer that treats parameters differently has no moment for this one."""
    return isinstance(node, optax.MaskedNode)


def _with_sharding(leaf: Any, sharding: Any) -> Any:
    if _is_masked(leaf):
        return leaf
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
