"""Trajectories to test with: plain ones, and every one that the record allows."""

from hypothesis import strategies as st

from agentprm_jax.data.trajectory import ActorInfo, Message, RecordedScores, Trajectory

WORDS = ("red", "green", "key", "ball", "door", "a1", "a2", "hold", "nothing", "go", "open", "finish")


def trajectory(
    steps: int = 2, outcome: float = 1.0, name: str = "one", task: str = "babyai_17", **fields
) -> Trajectory:
    """A conversation of `steps` rounds whose last reward is the outcome."""
    messages = []
    for step in range(steps):
        messages.append(Message("user", " ".join(WORDS[(step + k) % 9] for k in range(3 + step % 4))))
        messages.append(Message("assistant", f"go {WORDS[step % len(WORDS)]}", action=True))
    rewards = [0.0] * (steps - 1) + [outcome] if steps else []
    body = {"messages": messages, "rewards": rewards, "outcome": outcome, "ended": "terminated", **fields}
    return Trajectory(id=name, env="babyai", task=task, split="train", **body)


unit = st.floats(0.0, 1.0)
finite = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def extras(*reserved: str) -> st.SearchStrategy[dict]:
    """Values that may stand in an `extra`; the record gives the reserved names a meaning."""
    return st.dictionaries(st.text(max_size=6).filter(lambda key: key not in reserved), json_values, max_size=3)


@st.composite
def trajectories(draw: st.DrawFn) -> Trajectory:
    """Any trajectory that the record allows."""
    roles = draw(st.lists(st.sampled_from(["system", "user", "assistant", "action"]), max_size=6))
    messages = [
        Message("assistant" if role == "action" else role, draw(st.text(max_size=12)), role == "action", draw(extras()))
        for role in roles
    ]
    steps = roles.count("action")
    numbers = st.lists(finite, min_size=steps, max_size=steps)
    extra = draw(extras("action_loss"))
    if draw(st.booleans()):
        extra["action_loss"] = draw(st.lists(st.booleans(), min_size=steps, max_size=steps))
    names = st.text(max_size=6)
    actor = st.builds(
        ActorInfo,
        name=names,
        temperature=st.none() | st.floats(0.0, allow_infinity=False),
        seed=st.none() | st.integers(),
        prompt_tokens=st.integers(0),
        sampled_tokens=st.integers(0),
        extra=extras(),
    )
    scores = st.builds(RecordedScores, promise=numbers, progress=numbers, extra=extras())
    return Trajectory(
        id=draw(names),
        env=draw(names),
        task=draw(names),
        split=draw(names),
        messages=messages,
        rewards=draw(numbers),
        outcome=draw(unit),
        success=draw(st.booleans()),
        ended=draw(st.sampled_from(["terminated", "truncated"])),
        actor=draw(st.none() | actor),
        scores=draw(st.dictionaries(names, scores, max_size=2)),
        extra=extra,
    )
