"""The equations once more, one trajectory at a time, in plain Python loops and double precision.

Sums are written out instead of recursed, so that a mistake in a recursion cannot hide in both places.
"""

from collections.abc import Sequence


def gae(rewards: Sequence[float], values: Sequence[float], discounts: Sequence[float], lam: float) -> list[float]:
    """A_t = sum over k of (the product of lam * discount from t to t+k-1) * delta_{t+k}."""
    advantages = []
    for t in range(len(rewards)):
        total, factor = 0.0, 1.0
        for later in range(t, len(rewards)):
            delta = rewards[later] + discounts[later] * values[later + 1] - values[later]
            total += factor * delta
            factor *= lam * discounts[later]
        advantages.append(total)
    return advantages


def promise_targets(
    promises: Sequence[float], outcome: float, initial_value: float, gamma: float, lam: float
) -> tuple[list[float], list[float]]:
    """Promise and advantage labels of a trajectory without padding, AgentPRM eq. 12-14 (arXiv 2511.08325)."""
    end = len(promises) - 1
    before = [initial_value, *promises[:-1]]
    deltas = [gamma * promises[t] - before[t] if t < end else outcome - before[t] for t in range(end + 1)]
    advantages = [sum((gamma * lam) ** k * deltas[t + k] for k in range(end + 1 - t)) for t in range(end + 1)]
    labels = [advantages[t] + before[t] if t < end else outcome for t in range(end + 1)]
    return labels, advantages


def double_counting_labels(
    promises: Sequence[float], outcome: float, initial_value: float, gamma: float, lam: float
) -> list[float]:
    """What eq. 12 taken literally would give: the last step gets both the outcome and its own bootstrapped promise."""
    end = len(promises) - 1
    before = [initial_value, *promises[:-1]]
    deltas = [gamma * promises[t] - before[t] + (outcome if t == end else 0.0) for t in range(end + 1)]
    return [sum((gamma * lam) ** k * deltas[t + k] for k in range(end + 1 - t)) + before[t] for t in range(end + 1)]


def agentprm_parts(
    promises: Sequence[float],
    labels: Sequence[float],
    advantages: Sequence[float],
    initial_value: float,
    beta: float,
    progress: str,
) -> tuple[float, float]:
    """L_Q and beta * L_A of one trajectory, summed over its steps."""
    promise_part, progress_part = 0.0, 0.0
    for t, promise in enumerate(promises):
        before = promises[t - 1] if t else initial_value
        label_before = labels[t - 1] if t else initial_value
        wanted = advantages[t] if progress == "gae" else labels[t] - label_before
        promise_part += 0.5 * (promise - labels[t]) ** 2
        progress_part += beta * (promise - before - wanted) ** 2
    return promise_part, progress_part
