"""The sides of the measurement of sampling: our sampler, and `generate` of transformers used in two ways.

Packages that a plain installation lacks are imported when they are asked for.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from agentprm_jax.actors import NativeSampler
    from agentprm_jax.data import Message

Play = Callable[[], list[list[str]]]
"""Plays all turns of new conversations; returns the texts of the actions of each turn."""

OURS, THEIRS, THEIRS_KEPT = "ours", "generate", "generate, cache kept"
OBSERVATIONS = (
    "You see a wooden door, a bench and {} oak logs. Your inventory holds {} sticks.",
    "Crafted {} planks. You now hold {} planks and a crafting table.",
    "Could not find enough items to craft {} stone pickaxes; {} cobblestones are missing.",
)


class Game(NamedTuple):
    """What is played."""

    batch: int
    turns: int
    new_tokens: int
    capacity: int


class Side(NamedTuple):
    """One contender."""

    name: str
    dtype: str
    play: Play


def has_torch() -> bool:
    """Whether torch can be imported."""
    return importlib.util.find_spec("torch") is not None


def sides(path: Path, dtypes: tuple[str, ...], game: Game) -> list[Side]:
    """All contenders in all types of numbers; ours alone where there is no torch."""
    made = []
    for dtype in dtypes:
        sampler = load_ours(path, dtype, game)
        made.append(Side(OURS, dtype, our_play(sampler, game)))
        if has_torch():
            model = load_theirs(path, dtype)
            made.append(Side(THEIRS, dtype, their_play(sampler, model, game, keep=False)))
            made.append(Side(THEIRS_KEPT, dtype, their_play(sampler, model, game, keep=True)))
    return made


def conversations(batch: int) -> list[list[Message]]:
    """Tasks of different lengths."""
    from agentprm_jax.data import Message

    task = "Goal: craft a wooden pickaxe. Think, then act. "
    recipe = "craft {} planks using {} oak logs. "
    return [
        [Message("user", task + "".join(recipe.format(place + i, i + 1) for i in range(2 + place % 4)))]
        for place in range(batch)
    ]


def observation(turn: int, row: int) -> str:
    """What the environment says after a turn."""
    return OBSERVATIONS[turn % len(OBSERVATIONS)].format(row + turn + 2, row + 1)


def texts() -> Iterator[str]:
    """All that the users of up to 64 conversations say in up to 256 games."""
    yield from (f"{number:06d}" for number in range(256))
    for row, (opening,) in enumerate(conversations(64)):
        yield opening.content
        yield from (observation(turn, row) for turn in range(8))


def openings(game: Game, number: int) -> list[list[Message]]:
    """The first messages of a game; its number stands in front, so that no game before it is of use."""
    from agentprm_jax.data import Message

    return [[Message("user", f"{number:06d} {start[0].content}")] for start in conversations(game.batch)]


def our_play(sampler: NativeSampler, game: Game) -> Play:
    """Conversations of text through the sampler, as everybody calls it."""
    from agentprm_jax.data import Message

    numbers = itertools.count()

    def play() -> list[list[str]]:
        played, said = openings(game, next(numbers)), []
        for turn in range(game.turns):
            answers = sampler.act(played, temperature=0.0, max_tokens=game.new_tokens)
            said.append([action.text for (action,) in answers])
            for row, (messages, (action,)) in enumerate(zip(played, answers, strict=True)):
                messages += [Message("assistant", action.text, action=True), Message("user", observation(turn, row))]
        return said

    return play


def their_play(sampler: NativeSampler, model: Any, game: Game, *, keep: bool) -> Play:
    """Conversations of tokens through `generate`, padded on the left.

    Args:
        sampler: its encoder makes the tokens.
        model: of transformers.
        game: what is played.
        keep: whether one cache is handed from call to call, padding included, so that new tokens only are read. As
            `generate` is usually called, each call has a cache of its own and reads the conversation again.
    """
    torch, transformers = importlib.import_module("torch"), importlib.import_module("transformers")
    encoder, pad, numbers = sampler.encoder, sampler.encoder.pad_id, itertools.count()
    special = [index for index, token in encoder.tokenizer.added_tokens_decoder.items() if token.special]
    never = sorted({*special} - {encoder.end_of_turn_id})  # ours never says them either

    def padded(rows: list[list[int]]) -> tuple[Any, Any]:
        width = max(map(len, rows))
        tokens = torch.tensor([[pad] * (width - len(row)) + row for row in rows])
        return tokens, torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])

    def play() -> list[list[str]]:
        tokens, mask = padded([encoder.prompt_tokens(messages) for messages in openings(game, next(numbers))])
        cache, said = {"past_key_values": transformers.DynamicCache()} if keep else {}, []
        for turn in range(game.turns):
            with torch.inference_mode():
                grown = model.generate(
                    input_ids=tokens,
                    attention_mask=mask,
                    max_new_tokens=game.new_tokens,
                    min_new_tokens=game.new_tokens,
                    do_sample=False,
                    pad_token_id=pad,
                    eos_token_id=[encoder.end_of_turn_id],
                    suppress_tokens=never,
                    **cache,
                )
            new = grown[:, tokens.shape[1] :]
            said.append([encoder.decode_action(row) for row in new.tolist()])
            following, seen = padded([turn_tokens(sampler, observation(turn, row)) for row in range(game.batch)])
            tokens = torch.cat([grown, following], dim=1)
            mask = torch.cat([mask, torch.ones_like(new), seen], dim=1)
        return said

    return play


def turn_tokens(sampler: NativeSampler, text: str) -> list[int]:
    """Tokens between two actions: the end of the first, the observation, the opening of the second."""
    from agentprm_jax.data import Message

    encoder = sampler.encoder
    before = [Message("user", ""), Message("assistant", "")]
    whole = encoder.prompt_tokens([*before, Message("user", text)])
    return whole[len(encoder.prompt_tokens(before[:1])) :]


def load_ours(path: Path, dtype: str, game: Game) -> NativeSampler:
    """The sampler of a model, its weights in the given type."""
    import jax
    import jax.numpy as jnp

    from agentprm_jax.actors import NativeSampler, SamplerConfig
    from agentprm_jax.data.tokenizer_files import load_encoder
    from agentprm_jax.models import load_pretrained

    decoder, params = load_pretrained(path)
    sizes = SamplerConfig(
        slots=2 * game.batch,
        rows=game.batch,
        smallest_rows=min(game.batch, 2),
        capacity=game.capacity,
        max_tokens=game.new_tokens,
        min_tokens=game.new_tokens,
        prefill_lengths=(16, 32, 48, 64, 96, 128, 256),
        prefill_shares=8,
    )
    config = dataclasses.replace(decoder, dtype=dtype, param_dtype=dtype)
    encoder = load_encoder(path, vocab_size=decoder.vocab_size)
    return NativeSampler(config, jax.tree.map(lambda x: jnp.asarray(x, dtype), params), encoder, sizes)


def load_theirs(path: Path, dtype: str) -> Any:
    """The model in transformers, on as many threads as XLA takes."""
    torch, transformers = importlib.import_module("torch"), importlib.import_module("transformers")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    return transformers.AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype)).eval()
