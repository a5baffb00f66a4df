"""Whether a worker may still act, by a clock that the test moves."""

import asyncio
import sys
from collections.abc import Callable
from datetime import timedelta

import pytest

from orchestrator.engine import lease as lease_module
from orchestrator.engine.lease import Lease, boot_seconds

SetClock = Callable[[float], None]


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    def set_to(seconds: float) -> None:
        monkeypatch.setattr(lease_module, "boot_seconds", lambda: seconds)

    set_to(100.0)
    return set_to


def new_lease() -> Lease:
    return Lease(timedelta(seconds=7))


def test_a_lease_is_not_held_before_the_first_heartbeat(set_clock: SetClock) -> None:
    assert not new_lease().is_held()
    assert new_lease().age_seconds == float("inf")


def test_a_lease_ends_when_no_heartbeat_came_for_the_fence(set_clock: SetClock) -> None:
    lease = new_lease()
    lease.renew(100.0)
    set_clock(106.99)
    assert lease.is_held()
    set_clock(107.0)
    assert not lease.is_held()


def test_a_lease_counts_from_the_sending_of_the_heartbeat_not_its_answer(
    set_clock: SetClock,
) -> None:
    lease = new_lease()
    set_clock(103.0)
    lease.renew(100.0)
    assert lease.age_seconds == 3.0


def test_a_heartbeat_that_was_overtaken_does_not_set_the_lease_back(set_clock: SetClock) -> None:
    lease = new_lease()
    lease.renew(105.0)
    lease.renew(101.0)
    set_clock(106.0)
    assert lease.age_seconds == 1.0


def test_a_dropped_lease_is_not_held_until_it_is_renewed(set_clock: SetClock) -> None:
    lease = new_lease()
    lease.renew(100.0)
    lease.drop()
    assert not lease.is_held()
    lease.renew(100.0)
    assert lease.is_held()


async def test_who_needs_the_lease_goes_on_at_once_while_it_is_held(set_clock: SetClock) -> None:
    lease = new_lease()
    lease.renew(100.0)
    async with asyncio.timeout(1):
        await lease.held()


async def test_who_needs_the_lease_waits_until_it_is_held_again(set_clock: SetClock) -> None:
    lease = new_lease()
    lease.renew(50.0)
    waiting = asyncio.create_task(lease.held())
    await asyncio.sleep(0)
    lease.renew(60.0)  # a heartbeat that is too old already
    for _ in range(3):
        await asyncio.sleep(0)
    assert not waiting.done()
    lease.renew(99.0)
    async with asyncio.timeout(1):
        await waiting


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_the_clock_of_a_lease_never_goes_back(
    platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert boot_seconds() <= boot_seconds()
