"""Pace, slots and turns: who waits, and for how long."""

import asyncio
from contextlib import AbstractAsyncContextManager

from orchestrator.agents.limits import LONGEST_TURN_SECONDS, Gate, Pace, Turns
from orchestrator.domain.agent import Limits


def test_a_pace_spaces_calls_evenly() -> None:
    pace = Pace(interval_seconds=0.5)
    assert [pace.reserve(10.0, at_most_seconds=9) for _ in range(3)] == [0.0, 0.5, 1.0]
    assert pace.reserve(20.0, at_most_seconds=9) == 0.0


def test_a_pace_reserves_nothing_for_who_would_wait_too_long() -> None:
    pace = Pace(interval_seconds=2.0)
    assert pace.reserve(0.0, at_most_seconds=1) == 0.0
    assert pace.reserve(0.0, at_most_seconds=1) is None
    assert pace.delay_seconds(0.0) == 2.0
    assert pace.reserve(1.0, at_most_seconds=1) == 1.0


def test_who_found_no_room_comes_back_one_after_the_other() -> None:
    turns = Turns()
    assert [turns.next_seconds(0.0, first=2.0, apart=0.5) for _ in range(3)] == [2.0, 2.5, 3.0]
    assert turns.next_seconds(100.0, first=2.0, apart=0.5) == 2.0


def test_no_turn_is_farther_away_than_the_longest() -> None:
    turns = Turns()
    waits = [turns.next_seconds(0.0, first=1.0, apart=40.0) for _ in range(4)]
    assert waits == [1.0, 41.0, LONGEST_TURN_SECONDS, LONGEST_TURN_SECONDS]
    assert turns.next_seconds(0.0, first=300.0, apart=1.0) == 300.0


def slot(
    gate: Gate, *, wait_seconds: float = 5.0, call_seconds: float = 0.01
) -> AbstractAsyncContextManager[bool]:
    return gate.slot(wait_seconds=wait_seconds, call_seconds=call_seconds)


async def test_for_a_slow_agent_no_more_wait_than_it_has_slots() -> None:
    gate, told = Gate(Limits(concurrency=2)), list[bool]()

    async def call() -> None:
        async with slot(gate, wait_seconds=0.01, call_seconds=30.0) as is_mine:
            told.append(is_mine)
            if is_mine:
                await ended.wait()

    ended = asyncio.Event()
    calls = [asyncio.create_task(call()) for _ in range(10)]
    for _ in range(3):
        await asyncio.sleep(0)
    assert told.count(False) == 6
    ended.set()
    await asyncio.gather(*calls)


async def test_a_slot_that_stays_taken_is_told_after_the_wait() -> None:
    gate = Gate(Limits(concurrency=1))
    async with slot(gate) as first, slot(gate, wait_seconds=0.01) as second:
        assert (first, second) == (True, False)
    async with slot(gate) as third:
        assert third


async def test_a_slot_that_comes_free_goes_to_who_waits() -> None:
    gate, order = Gate(Limits(concurrency=1)), list[int]()

    async def call(number: int) -> None:
        async with slot(gate) as is_mine:
            assert is_mine
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(call(n) for n in range(5)))
    assert order == [0, 1, 2, 3, 4]
