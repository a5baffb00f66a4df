"""What a runner has on the outside is cut with its block, whatever it does about it."""

import asyncio

import pytest

from orchestrator.engine import under_way as module
from orchestrator.engine.under_way import Bell, under_way


async def forever() -> None:
    await asyncio.Event().wait()


async def stubborn(released: asyncio.Event) -> None:
    while not released.is_set():
        try:
            await released.wait()
        except asyncio.CancelledError:
            continue


async def test_what_has_not_ended_with_the_block_is_cut() -> None:
    async with under_way({1: forever(), 2: asyncio.sleep(0)}) as works:
        await Bell().during([works[2]], seconds=5)
        assert works[2].done()
    assert works[1].cancelled()


async def test_what_does_not_let_itself_be_cut_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "CUT_SECONDS", 0.05)
    released = asyncio.Event()
    async with asyncio.timeout(2), under_way({1: stubborn(released)}) as works:
        await asyncio.sleep(0)
    assert not works[1].done()
    released.set()
    await works[1]


async def test_a_bell_that_rang_before_is_heard_and_can_ring_again() -> None:
    bell = Bell()
    async with under_way({1: forever()}) as works:
        bell.ring()
        bell.ring()
        await bell.during([works[1]], seconds=60)
        bell.quiet()
        assert not bell.is_rung
        await bell.during([works[1]], seconds=0.01)
        assert not bell.is_rung
        bell.ring()
        await bell.during([works[1]], seconds=60)
        assert bell.is_rung
