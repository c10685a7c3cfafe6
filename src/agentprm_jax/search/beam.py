"""Step-level beam search @NxM, many tasks at once (AgentPRM, algorithm 2, arXiv 2511.08325).

A task keeps N open paths (its nodes); each round the actor proposes M actions for every node, the scorer values each
proposal before it is taken, and the N best are taken. Where the paper is silent:

* The first round has one node, the start, and draws N x M proposals from it.
* Equal proposals of one node are one candidate: transitions are deterministic, so they would be the same path twice.
* A proposal that the limit of tokens cut off each time that it was drawn is a candidate too; its path's
  `extra["action_cut"]` says so.
* A path that ends leaves the nodes, keeps the score of its last action, and competes in the final choice; its place
  goes to the next best candidate of the following round.
* What is proposed after a path is a function of the path and the seed, whatever is searched beside it: searches with
  different scorers that come to the same path choose from the same proposals, so comparing scorers compares scores.
* A path that outgrows the actor's context ends there, as one that the round limit cuts off.
* A path that the actor leaves without an answer, however often it is asked, is given up: the search goes on with the
  task's other paths, and the final choice is among those that ended.
* The search of a task stops when no node is open; the environment's round limit ends every path at the latest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from agentprm_jax.actors.base import Action, Actor, ActorUnavailable, ConversationTooLong
from agentprm_jax.data.trajectory import ActorInfo, Message
from agentprm_jax.scoring.base import ConversationScorer
from agentprm_jax.search.episode import Episode, MakeEnvironment, ask
from agentprm_jax.search.left_out import Failure, TasksLeftOut
from agentprm_jax.search.result import SearchResult
from agentprm_jax.search.seeding import stable_seed


@dataclass(frozen=True)
class _Proposal:
    node: Episode
    text: str
    tokens: int
    complete: bool

    @property
    def conversation(self) -> list[Message]:
        return [*self.node.messages, Message(role="assistant", content=self.text, action=True)]


@dataclass
class _Search:
    """The state of the search on one task."""

    task: str
    nodes: list[Episode]
    scores: list[float]  # of the nodes' last actions; the start has none
    finished: list[tuple[float, Episode]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)  # of the paths that were given up
    sampled_tokens: int = 0
    scored_actions: int = 0
    environment_steps: int = 0

    @property
    def unheard(self) -> bool:
        """Whether the actor has answered nothing at all in this search."""
        failed = bool(self.failures) and all(isinstance(failure, ActorUnavailable) for failure in self.failures)
        return failed and not self.scored_actions

    def propose(self, answers: Sequence[list[Action] | Failure]) -> list[_Proposal]:
        """Merges equal proposals of a node; `answers` holds the actor's samples for each, or why it has none."""
        proposals = []
        for node, actions in zip(self.nodes, answers, strict=True):
            if isinstance(actions, Failure):
                self.failures.append(actions)
                continue
            self.sampled_tokens += sum(action.tokens for action in actions)
            tokens, whole = {a.text: a.tokens for a in actions}, {a.text for a in actions if a.complete}
            proposals += [_Proposal(node, text, count, text in whole) for text, count in tokens.items()]
        self.scored_actions += len(proposals)
        return proposals

    def take(self, proposals: Sequence[_Proposal], scores: Sequence[float], width: int) -> None:
        """Takes the `width` best proposals; of equal scores the earlier one wins."""
        order = sorted(range(len(proposals)), key=lambda index: -scores[index])[:width]
        parents, parent_scores = self.nodes, self.scores
        self.nodes, self.scores = [], []
        self.finished += [(score, node) for score, node in zip(parent_scores, parents, strict=True) if node.ended]
        for index in order:
            chosen = proposals[index]
            child = chosen.node.fork()
            child.act(chosen.text, chosen.tokens, complete=chosen.complete)
            self.environment_steps += 1
            if child.ended:
                self.finished.append((scores[index], child))
            else:
                self.nodes.append(child)
                self.scores.append(scores[index])
        for parent in parents:
            if not parent.ended:
                parent.close()

    def choose(self, finished_first: bool) -> tuple[float, Episode]:
        """The best ended path; with `finished_first` any that terminated comes before those that were cut off."""
        return max(self.finished, key=lambda pair: (finished_first and pair[1].ended == "terminated", pair[0]))


def beam_search(
    tasks: Sequence[str],
    *,
    make_environment: MakeEnvironment,
    actor: Actor,
    scorer: ConversationScorer,
    nodes: int,
    candidates: int,
    temperature: float,
    seed: int,
    max_tokens: int = 32,
    concurrency: int = 256,
    attempts: int = 3,
    finished_first: bool = False,
    split: str = "test",
) -> list[SearchResult]:
    """Searches every task with step-level beam search and returns the best path of each, in the order of `tasks`.

    Args:
        tasks: task ids of the environment.
        make_environment: makes an environment whose episodes end by themselves and that can `fork`.
        actor: proposes actions.
        scorer: values the last action of each of many conversations.
        nodes: N, paths kept.
        candidates: M, actions proposed a node.
        temperature: of the proposals; the paper uses 0.7.
        seed: of the proposals.
        max_tokens: most tokens an action may have.
        concurrency: proposals that are sampled at once; it sets how many tasks are searched together.
        attempts: times that the actor is asked about a path which it leaves without an answer, before that is given up.
        finished_first: prefer any path that terminated to those cut off at the round limit; a control.
        split: the name recorded in the trajectories.

    Raises:
        ValueError: `nodes`, `candidates` or `attempts` is below 1.
        ActorUnavailable: the actor has not answered a single time: it is not there.
        TasksLeftOut: at the end, if all paths of some tasks were given up before one ended, or the first action has no
            room in the actor's context; it holds the results of the others.
    """
    if nodes < 1 or candidates < 1 or attempts < 1:
        raise ValueError(
            f"Beam search @NxM needs N >= 1, M >= 1 and attempts >= 1; got {nodes}x{candidates} and {attempts}."
        )
    together = max(1, concurrency // (nodes * candidates))
    actor_info = ActorInfo(name=actor.name, temperature=temperature, seed=seed)
    results: list[SearchResult] = []
    failures: dict[str, Failure] = {}
    for start in range(0, len(tasks), together):
        searches = [
            _Search(task, [Episode.start(make_environment(), task)], [0.0]) for task in tasks[start : start + together]
        ]
        samples = nodes * candidates
        while open_searches := [search for search in searches if search.nodes]:
            proposals = _propose(open_searches, actor, samples, temperature, seed, max_tokens, attempts)
            _score_and_take(open_searches, proposals, scorer, nodes)
            samples = candidates
        failures |= {search.task: search.failures[-1] for search in searches if not search.finished}
        if not results and all(search.unheard for search in searches):
            raise failures[searches[0].task]
        ended = [search for search in searches if search.finished]
        results += [_result(search, finished_first, split, actor_info, nodes, candidates) for search in ended]
    if failures:
        raise TasksLeftOut(failures, results)
    return results


def _propose(
    searches: Sequence[_Search],
    actor: Actor,
    samples: int,
    temperature: float,
    seed: int,
    max_tokens: int,
    attempts: int,
) -> list[list[_Proposal]]:
    """What the actor proposes after the nodes of all searches; those that it leaves without an answer are given up."""
    nodes = [node for search in searches for node in search.nodes]
    seeds = [stable_seed("beam", seed, search.task) for search in searches for _ in search.nodes]
    asked = partial(ask, actor, samples=samples, temperature=temperature, max_tokens=max_tokens)
    answers = iter(_persistently(asked, nodes, seeds, attempts))
    return [search.propose([next(answers) for _ in search.nodes]) for search in searches]


def _persistently(
    asked: Callable[[list[Episode], list[int]], list[list[Action]]],
    nodes: Sequence[Episode],
    seeds: Sequence[int],
    attempts: int,
) -> list[list[Action] | Failure]:
    """Asks about all nodes, and again about those without an answer; gives each one's actions or its last failure."""
    found: dict[int, list[Action] | Failure] = {}
    failures: Counter[int] = Counter()
    while places := [place for place in range(len(nodes)) if place not in found]:
        try:
            answers = asked([nodes[place] for place in places], [seeds[place] for place in places])
        except (ActorUnavailable, ConversationTooLong) as error:
            unanswered = [places[index] for index in error.conversations]
            failures.update(unanswered)
            final = isinstance(error, ConversationTooLong)
            found |= {place: error for place in unanswered if final or failures[place] == attempts}
            found |= {place: [] for place in places if nodes[place].ended}
        else:
            found |= dict(zip(places, answers, strict=True))
    return [found[place] for place in range(len(nodes))]


def _score_and_take(
    searches: Sequence[_Search], proposals: Sequence[list[_Proposal]], scorer: ConversationScorer, width: int
) -> None:
    """One scorer call for the proposals of all searches, then each search takes its best."""
    flat = [proposal.conversation for own in proposals for proposal in own]
    scores = iter(scorer.score_conversations(flat))
    for search, own in zip(searches, proposals, strict=True):
        search.take(own, [next(scores) for _ in own], width)


def _result(
    search: _Search, finished_first: bool, split: str, actor_info: ActorInfo, nodes: int, candidates: int
) -> SearchResult:
    score, episode = search.choose(finished_first)
    identifier = f"{search.task}/beam{nodes}x{candidates}/{actor_info.seed}"
    trajectory = episode.trajectory(identifier, split, actor_info)
    for _, other in search.finished:
        other.close()
    return SearchResult(
        trajectory,
        score,
        search.sampled_tokens,
        search.scored_actions,
        search.environment_steps,
        unanswered=len(search.failures),
    )
