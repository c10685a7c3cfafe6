"""Everything that computes advantages here: ours, other libraries, and loops written anew from published formulas.

All get the same numbers: one constant discount, and the value 0 behind the last step, which is all that the torch loops
know. Ours is given the discount as that one number, and beside it as an array with a discount for every step, as rlax
and numba are. Packages are imported when they are asked for.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

GAMMA, LAM = 0.99, 0.95
ACTING = 0.5
"""Share of tokens that are actions, where observations stand between them."""
OURS, OURS_BY_STEP, OURS_TOKENS = "agentprm-jax", "agentprm-jax, a discount a step", "agentprm-jax, tokens"
OWN = (OURS, OURS_BY_STEP, OURS_TOKENS)
ADD = "adding two arrays"

Call = Callable[[], Any]


class Case(NamedTuple):
    """Inputs: rewards [n, u], values [n, u+1] whose last column is 0, discounts [n, u]; which tokens act, [n, u]."""

    rewards: np.ndarray
    values: np.ndarray
    discounts: np.ndarray
    acts: np.ndarray


def make_case(shape: tuple[int, int]) -> Case:
    """Random inputs in float32, the same for the same shape."""
    rng = np.random.default_rng(0)
    rows, steps = shape
    values = rng.normal(size=(rows, steps + 1)).astype(np.float32)
    values[:, -1] = 0
    rewards, discounts = rng.normal(size=shape).astype(np.float32), np.full(shape, GAMMA, np.float32)
    return Case(rewards, values, discounts, rng.random(shape) < ACTING)


def add(case: Case, dtype: str) -> Call:
    """The reference of memory speed: a jitted sum of two arrays of the size of the rewards."""
    import jax
    import jax.numpy as jnp

    return _jitted(jnp.add, *(jax.device_put(jnp.asarray(array, dtype)) for array in (case.rewards, case.discounts)))


def ours(case: Case, dtype: str) -> Call:
    """`agentprm_jax.numerics.targets.gae` with one discount."""
    import jax.numpy as jnp

    from agentprm_jax.numerics.targets import gae

    once = functools.partial(gae, discounts=GAMMA, lam=LAM)
    return _jitted(once, jnp.asarray(case.rewards, dtype), jnp.asarray(case.values, dtype))


def ours_by_step(case: Case, dtype: str) -> Call:
    """The same with a discount for every step, which may end episodes inside a row."""
    import jax.numpy as jnp

    from agentprm_jax.numerics.targets import gae

    return _jitted(functools.partial(gae, lam=LAM), *(jnp.asarray(array, dtype) for array in case[:3]))


def ours_tokens(case: Case, dtype: str) -> Call:
    """`agentprm_jax.numerics.targets.token_gae`: observations stand between the actions."""
    import jax.numpy as jnp

    from agentprm_jax.numerics.targets import token_gae

    arrays = (jnp.asarray(array, dtype) for array in (case.rewards, case.values[:, :-1]))
    return _jitted(functools.partial(token_gae, gamma=GAMMA, lam=LAM), *arrays, jnp.asarray(case.acts))


def rlax(case: Case, dtype: str) -> Call:
    """`rlax.truncated_generalized_advantage_estimation` of each row."""
    import jax
    import jax.numpy as jnp

    estimate = importlib.import_module("rlax").truncated_generalized_advantage_estimation
    rewards, values, discounts = (jnp.asarray(array, dtype) for array in case[:3])
    return _jitted(
        jax.vmap(lambda rewards, discounts, values: estimate(rewards, discounts, LAM, values)),
        rewards,
        discounts,
        values,
    )


def trl(case: Case, _: str) -> Call:
    """The loop of TRL's PPO trainer."""
    torch, rewards, values = _tensors(case)

    def estimate() -> Any:
        later, reversed_advantages = 0, []
        steps = rewards.shape[1]
        for t in reversed(range(steps)):
            following = values[:, t + 1] if t < steps - 1 else 0.0
            delta = rewards[:, t] + GAMMA * following - values[:, t]
            later = delta + GAMMA * LAM * later
            reversed_advantages.append(later)
        return torch.stack(reversed_advantages[::-1], dim=1)

    return estimate


def openrlhf(case: Case, _: str) -> Call:
    """The loop of OpenRLHF's experience maker, which masks rewards and values first and adds values for the returns."""
    torch, rewards, values = _tensors(case)
    mask = torch.ones_like(rewards)

    def estimate() -> Any:
        later, reversed_advantages = 0, []
        masked_values, masked_rewards = mask * values, mask * rewards
        steps = rewards.shape[1]
        for t in reversed(range(steps)):
            following = masked_values[:, t + 1] if t < steps - 1 else 0.0
            delta = masked_rewards[:, t] + GAMMA * following - masked_values[:, t]
            later = delta + GAMMA * LAM * later
            reversed_advantages.append(later)
        advantages = torch.stack(reversed_advantages[::-1], dim=1)
        _ = advantages + masked_values
        return advantages

    return estimate


def verl(case: Case, _: str) -> Call:
    """The loop of verl, which carries value and advantage over masked tokens; without its whitening."""
    torch, rewards, values = _tensors(case)
    return _verl_loop(torch, rewards, values, torch.ones_like(rewards))


def verl_tokens(case: Case, _: str) -> Call:
    """The same loop over conversations, whose observations it skips; advantages at actions alone."""
    torch, rewards, values = _tensors(case)
    return _verl_loop(torch, rewards, values, torch.from_numpy(case.acts.astype(np.float32)))


def torchrl(case: Case, _: str) -> Call:
    """`torchrl.objectives.value.functional.vec_generalized_advantage_estimate`, its vectorised form."""
    functional = importlib.import_module("torchrl.objectives.value.functional")
    torch, rewards, _values = _tensors(case)
    values = torch.from_numpy(case.values)
    column = [array[..., None].contiguous() for array in (values[:, :-1], values[:, 1:], rewards)]
    done = torch.zeros_like(column[0], dtype=torch.bool)
    return lambda: functional.vec_generalized_advantage_estimate(GAMMA, LAM, *column, done)[0][..., 0]


def numba(case: Case, _: str) -> Call:
    """A compiled loop over rows and steps, on one core."""
    return _numba_loop(case, parallel=False)


def numba_parallel(case: Case, _: str) -> Call:
    """The same loop with its rows spread over all cores."""
    return _numba_loop(case, parallel=True)


IMPLEMENTATIONS: Mapping[str, Callable[[Case, str], Call]] = {
    ADD: add,
    OURS: ours,
    OURS_BY_STEP: ours_by_step,
    OURS_TOKENS: ours_tokens,
    "rlax": rlax,
    "TRL": trl,
    "OpenRLHF": openrlhf,
    "verl": verl,
    "verl, tokens": verl_tokens,
    "torchrl": torchrl,
    "numba": numba,
    "numba, all cores": numba_parallel,
}
"""By name: makes a function that does the work once and returns the advantages when they are there."""

GROUPS: Mapping[str, tuple[str, ...]] = {
    "JAX": (ADD, OURS, OURS_BY_STEP, "rlax"),
    "tokens": (ADD, OURS_TOKENS),
    "torch": (OURS, OURS_BY_STEP, "TRL", "OpenRLHF", "verl", "torchrl"),
    "numba": (OURS, OURS_BY_STEP, "numba", "numba, all cores"),
    "tokens, torch": (OURS_TOKENS, "verl, tokens"),
}
"""Who takes turns with whom, in this order. In one group with torch and numba, adding two arrays of [4096, 32] took
several times as long as without them: so JAX is measured first, before either is loaded, and each of them beside ours
alone."""

ANY_DTYPE = (ADD, *OWN)
"""Those that are measured with other inputs than float32 as well; the others would compute in that precision."""


def _jitted(function: Callable[..., Any], *arrays: Any) -> Call:
    import jax

    compiled = jax.jit(function)
    return lambda: jax.block_until_ready(compiled(*arrays))


def _tensors(case: Case) -> tuple[Any, Any, Any]:
    """Torch, and rewards and values before each step as its tensors."""
    torch = importlib.import_module("torch")
    torch.set_grad_enabled(False)
    return torch, torch.from_numpy(case.rewards), torch.from_numpy(case.values[:, :-1].copy())


def _verl_loop(torch: Any, rewards: Any, values: Any, mask: Any) -> Call:
    def estimate() -> Any:
        following, later, reversed_advantages = 0, 0, []
        for t in reversed(range(rewards.shape[1])):
            delta = rewards[:, t] + GAMMA * following - values[:, t]
            here = delta + GAMMA * LAM * later
            following = values[:, t] * mask[:, t] + (1 - mask[:, t]) * following
            later = here * mask[:, t] + (1 - mask[:, t]) * later
            reversed_advantages.append(later)
        advantages = torch.stack(reversed_advantages[::-1], dim=1)
        _ = advantages + values
        return advantages * mask

    return estimate


def _numba_loop(case: Case, *, parallel: bool) -> Call:
    compiler = importlib.import_module("numba")
    rows_of = compiler.prange if parallel else range

    @compiler.njit(parallel=parallel, fastmath=False)
    def loop(rewards: Any, values: Any, discounts: Any, lam: Any) -> Any:
        advantages = np.empty_like(rewards)
        for row in rows_of(rewards.shape[0]):
            later = np.float32(0)
            for back in range(rewards.shape[1]):
                t = rewards.shape[1] - 1 - back
                discount = discounts[row, t]
                later = rewards[row, t] + discount * (values[row, t + 1] + lam * later) - values[row, t]
                advantages[row, t] = later
        return advantages

    return lambda: loop(*case[:3], np.float32(LAM))
