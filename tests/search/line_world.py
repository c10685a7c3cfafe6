"""A world small enough to know every answer: walk right along a line to the goal, then say finish."""

from agentprm_jax.actors.base import Action, ActorUnavailable, ConversationTooLong, Usage
from agentprm_jax.envs.base import Environment, Observation


class LineWorld(Environment):
    """Task `line_<goal>`: the outcome is 1 if `finish` is said at the goal; cut off after `max_rounds` actions."""

    name = "line"

    def __init__(self, max_rounds=6):
        self.max_rounds = max_rounds
        self.closed = False

    def reset(self, task):
        self.goal, self.place, self.rounds = int(task.split("_")[1]), 0, 0
        return Observation(f"goal {self.goal} at 0")

    def step(self, action):
        self.rounds += 1
        if action == "finish":
            return Observation("", float(self.place == self.goal), terminated=True)
        self.place += {"right": 1, "left": -1, "stay": 0}[action]
        return Observation(f"at {self.place}", truncated=self.rounds >= self.max_rounds)

    def fork(self):
        twin = LineWorld(self.max_rounds)
        twin.goal, twin.place, twin.rounds = self.goal, self.place, self.rounds
        return twin

    def valid_actions(self):
        return ["right", "left", "stay", "finish"]

    def close(self):
        self.closed = True


class CyclingActor:
    """Proposes right, left, stay, finish in turn, beginning where the seed says; each is the whole of two tokens.

    Its context holds `most_messages`, each of one token; `seeds` holds the seed of every conversation that it was asked
    about.
    """

    name = "cycling"

    def __init__(self, most_messages=100):
        self.calls = []
        self.seeds = {}
        self.most_messages = most_messages

    @property
    def usage(self):
        return Usage()

    def act(self, conversations, *, samples=1, temperature=1.0, seed=0, max_tokens=32):
        seeds = [seed] * len(conversations) if isinstance(seed, int) else list(seed)
        long = [index for index, messages in enumerate(conversations) if len(messages) > self.most_messages]
        if long:
            raise ConversationTooLong(long, f"Conversation {long[0]} is too long.")
        self.calls.append((len(conversations), samples))
        self.seeds |= {
            tuple(m.content for m in messages): one for messages, one in zip(conversations, seeds, strict=True)
        }
        actions = ("right", "left", "stay", "finish")
        return [
            [
                Action(actions[(one + k) % 4], min(2, max_tokens), -1.0, max_tokens > 1, prompt_tokens=len(messages))
                for k in range(samples)
            ]
            for messages, one in zip(conversations, seeds, strict=True)
        ]


class CrampedActor(CyclingActor):
    """Has no room for the conversations of one goal."""

    def __init__(self, goal):
        super().__init__()
        self.goal = f"goal {goal} at 0"

    def act(self, conversations, **options):
        long = [place for place, messages in enumerate(conversations) if messages[0].content == self.goal]
        if long:
            raise ConversationTooLong(long, f"Conversation {long[0]} is too long.")
        return super().act(conversations, **options)


class GoalScorer:
    """The true value: how near the walker is to the goal, and whether finish is said there."""

    def score_conversations(self, conversations):
        return [self._value(messages) for messages in conversations]

    def _value(self, messages):
        goal = int(messages[0].content.split()[1])
        actions = [message.content for message in messages if message.role == "assistant"]
        place = actions.count("right") - actions.count("left")
        if actions[-1] == "finish":
            return 100.0 if place == goal else -100.0
        return -float(abs(goal - place))


class FailingActor(CyclingActor):
    """Gives no answer to conversations for which `fails(goal, messages, number of the asking)` holds."""

    def __init__(self, fails, most_messages=100):
        super().__init__(most_messages)
        self.fails = fails
        self.asked = {}

    def act(self, conversations, *, seed=0, **options):
        answers = super().act(conversations, seed=seed, **options)
        lost = []
        for place, (messages, one) in enumerate(zip(conversations, seed, strict=True)):
            number = self.asked[one] = self.asked.get(one, 0) + 1
            if self.fails(int(messages[0].content.split()[1]), len(messages), number):
                lost.append(place)
        if lost:
            raise ActorUnavailable(lost, f"{len(lost)} got no answer")
        return answers
