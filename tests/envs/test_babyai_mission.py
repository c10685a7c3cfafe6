"""The verdict of the declared form; the agent stands at (3, 5) and looks up at (3, 4)."""

from __future__ import annotations

from copy import deepcopy

import pytest
from minigrid.core.world_object import Ball, Door, Key
from minigrid.envs.babyai.core.verifier import (
    AfterInstr,
    AndInstr,
    BeforeInstr,
    GoToInstr,
    ObjDesc,
    OpenInstr,
    PickupInstr,
    PutNextInstr,
)

from agentprm_jax.envs.babyai_mission import Progress
from agentprm_jax.envs.babyai_world import DROP, FORWARD, LEFT, PICKUP, RIGHT, TOGGLE

AHEAD, RIGHT_HAND, LEFT_HAND, BEHIND = (3, 4), (4, 5), (2, 5), (3, 6)


def red_ball():
    return ObjDesc("ball", "red")


def doors_around():
    """A red door ahead and a blue one to the right."""
    return {AHEAD: Door("red"), RIGHT_HAND: Door("blue")}


def open_door(color):
    return OpenInstr(ObjDesc("door", color))


@pytest.fixture
def follow(babyai_world):
    """Returns the progress after moves in a world of these things with this mission."""

    def followed(things, instruction, moves, **options):
        progress = Progress(babyai_world(deepcopy(things), instruction), **options)
        for move in moves:
            progress.world.move(move)
            progress.observe()
        return progress

    return followed


def test_going_to_a_thing_holds_while_the_agent_faces_it(follow):
    things, mission = {RIGHT_HAND: Ball("red")}, GoToInstr(red_ball())
    assert not follow(things, mission, ()).fulfilled()
    assert follow(things, mission, (RIGHT,)).fulfilled()
    assert not follow(things, mission, (RIGHT, LEFT)).fulfilled()


def test_going_to_a_thing_does_not_hold_once_it_is_picked_up(follow):
    assert not follow({AHEAD: Ball("red")}, GoToInstr(red_ball()), (PICKUP,)).fulfilled()


def test_picking_up_holds_while_the_thing_is_carried(follow):
    things, mission = {AHEAD: Ball("red"), RIGHT_HAND: Ball("blue")}, PickupInstr(red_ball())
    assert follow(things, mission, (PICKUP,)).fulfilled()
    assert not follow(things, mission, (RIGHT, PICKUP)).fulfilled()
    assert not follow(things, mission, (PICKUP, DROP)).fulfilled()


def test_a_wrong_thing_picked_up_in_a_strict_level_can_be_put_right(follow):
    things, mission = {AHEAD: Ball("red"), RIGHT_HAND: Ball("blue")}, PickupInstr(red_ball(), strict=True)
    assert follow(things, mission, (RIGHT, PICKUP, DROP, LEFT, PICKUP)).fulfilled()


def test_opening_holds_while_the_door_is_open(follow):
    assert follow(doors_around(), open_door("red"), (TOGGLE, RIGHT)).fulfilled()
    assert not follow(doors_around(), open_door("red"), (TOGGLE, TOGGLE)).fulfilled()
    assert not follow(doors_around(), open_door("red"), (RIGHT, TOGGLE)).fulfilled()


def test_putting_next_to_holds_while_both_lie_side_by_side(follow):
    things, mission = {RIGHT_HAND: Key("blue"), (4, 3): Ball("red")}, PutNextInstr(red_ball(), ObjDesc("key", "blue"))
    assert not follow(things, mission, ()).fulfilled()
    beside = {(4, 4): Key("blue"), AHEAD: Ball("red")}
    assert follow(beside, mission, ()).fulfilled()
    assert not follow(beside, mission, (PICKUP,)).fulfilled()
    assert follow(beside, mission, (PICKUP, DROP)).fulfilled()
    assert not follow(beside, mission, (PICKUP, LEFT, DROP)).fulfilled()


def test_a_wall_is_no_grey_object(follow):
    mission = GoToInstr(ObjDesc(None, "grey"))
    assert not follow({(6, 1): Key("grey")}, mission, (LEFT, FORWARD, FORWARD)).fulfilled()


def test_and_needs_both_to_have_happened_and_one_still_to_hold(follow):
    things = {RIGHT_HAND: Ball("red"), LEFT_HAND: Key("blue")}
    mission = AndInstr(GoToInstr(red_ball()), GoToInstr(ObjDesc("key", "blue")))
    assert not follow(things, mission, (RIGHT,)).fulfilled()
    assert follow(things, mission, (RIGHT, LEFT, LEFT)).fulfilled()
    assert follow(things, mission, (LEFT, RIGHT, RIGHT)).fulfilled()
    assert not follow(things, mission, (RIGHT, LEFT, LEFT, LEFT)).fulfilled()


@pytest.mark.parametrize("build", [lambda a, b: BeforeInstr(a, b), lambda a, b: AfterInstr(b, a)])
def test_a_sequence_is_fulfilled_in_its_order_only(follow, build):
    mission = build(open_door("red"), open_door("blue"))
    assert follow(doors_around(), mission, (TOGGLE, RIGHT, TOGGLE)).fulfilled()
    assert not follow(doors_around(), mission, (RIGHT, TOGGLE, LEFT, TOGGLE)).fulfilled()
    assert not follow(doors_around(), mission, (TOGGLE,)).fulfilled()
    assert not follow(doors_around(), mission, (RIGHT, TOGGLE)).fulfilled()


def test_what_was_done_too_early_counts_when_it_is_done_again(follow):
    mission = BeforeInstr(open_door("red"), open_door("blue"))
    early = (RIGHT, TOGGLE, LEFT, TOGGLE)
    assert not follow(doors_around(), mission, (*early, RIGHT, TOGGLE)).fulfilled()
    assert follow(doors_around(), mission, (*early, RIGHT, TOGGLE, TOGGLE)).fulfilled()


def test_in_strict_order_doing_the_second_part_first_fails_for_good(follow):
    mission = BeforeInstr(open_door("red"), open_door("blue"))
    again = (RIGHT, TOGGLE, LEFT, TOGGLE, RIGHT, TOGGLE, TOGGLE)
    failed = follow(doors_around(), mission, again, strict_order=True)
    assert failed.failed
    assert not failed.fulfilled()
    assert follow(doors_around(), mission, (TOGGLE, RIGHT, TOGGLE), strict_order=True).fulfilled()


def test_in_strict_order_half_of_the_second_part_may_come_early(follow):
    things = {**doors_around(), LEFT_HAND: Door("green")}
    mission = BeforeInstr(open_door("red"), AndInstr(open_door("blue"), open_door("green")))
    half = (RIGHT, TOGGLE, LEFT, TOGGLE)
    assert not follow(things, mission, half, strict_order=True).failed
    rest = (LEFT, TOGGLE, RIGHT, RIGHT, TOGGLE, TOGGLE)
    assert follow(things, mission, (*half, *rest), strict_order=True).fulfilled()
    assert follow(things, mission, (RIGHT, TOGGLE, LEFT, LEFT, TOGGLE), strict_order=True).failed


def test_the_first_part_need_not_hold_any_more(follow):
    mission = BeforeInstr(GoToInstr(ObjDesc("door", "red")), open_door("blue"))
    assert follow(doors_around(), mission, (TOGGLE, RIGHT, TOGGLE)).fulfilled()


def test_one_move_can_end_the_first_part_and_begin_the_second(follow):
    mission = BeforeInstr(open_door("red"), GoToInstr(ObjDesc("door", "red")))
    assert follow(doors_around(), mission, (TOGGLE,)).fulfilled()


def test_facing_a_thing_on_the_way_counts_as_having_gone_there(follow):
    things = {RIGHT_HAND: Ball("red"), BEHIND: Key("blue")}
    mission = BeforeInstr(GoToInstr(red_ball()), GoToInstr(ObjDesc("key", "blue")))
    assert follow(things, mission, (RIGHT, RIGHT)).fulfilled()
    assert not follow(things, mission, (LEFT, LEFT)).fulfilled()


def test_opening_another_matching_door_is_opening_again(follow):
    things = {AHEAD: Door("red"), RIGHT_HAND: Door("red"), LEFT_HAND: Door("blue")}
    mission = BeforeInstr(open_door("blue"), open_door("red"))
    assert not follow(things, mission, (TOGGLE, LEFT, TOGGLE)).fulfilled()
    assert follow(things, mission, (TOGGLE, LEFT, TOGGLE, RIGHT, RIGHT, TOGGLE)).fulfilled()


def test_a_copy_of_progress_goes_on_in_the_copied_world_only(follow):
    mission = BeforeInstr(open_door("red"), open_door("blue"))
    original = follow(doors_around(), mission, (TOGGLE,))
    twin = original.copy(original.world.copy())
    for move in (RIGHT, TOGGLE):
        twin.world.move(move)
        twin.observe()
    assert twin.fulfilled()
    assert not original.fulfilled()
    assert original.remaining[0].things[0] is original.world.level.grid.get(*RIGHT_HAND)


def test_remaining_names_the_clauses_of_the_part_that_comes_next(follow):
    mission = BeforeInstr(open_door("red"), open_door("blue"))
    assert [c.things[0].color for c in follow(doors_around(), mission, ()).remaining] == ["red"]
    assert [c.things[0].color for c in follow(doors_around(), mission, (TOGGLE,)).remaining] == ["blue"]
    assert follow(doors_around(), mission, (TOGGLE, RIGHT, TOGGLE)).remaining == ()
