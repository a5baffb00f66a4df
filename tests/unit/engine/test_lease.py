import asyncio
from datetime import timedelta

import pytest

from orchestrator.engine import lease as lease_module
from orchestrator.engine.lease import Lease


class BootClock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> BootClock:
    clock = BootClock()
    monkeypatch.setattr(lease_module, "boot_seconds", clock)
    return clock


def held_lease(clock: BootClock) -> Lease:
    lease = Lease(timedelta(seconds=7))
    lease.renew(clock.seconds)
    return lease


def test_a_lease_is_not_held_before_the_first_heartbeat(clock: BootClock) -> None:
    assert not Lease(timedelta(seconds=7)).is_held()


def test_a_lease_ends_its_fence_after_the_heartbeat_was_sent(clock: BootClock) -> None:
    lease = held_lease(clock)
    clock.seconds += 6.9
    assert lease.is_held()
    clock.seconds += 0.2
    assert not lease.is_held()


def test_a_heartbeat_counts_from_when_it_was_sent_not_from_its_answer(clock: BootClock) -> None:
    lease, sent = held_lease(clock), clock.seconds
    clock.seconds += 8
    lease.renew(sent + 0.5)
    assert not lease.is_held()


def test_answers_out_of_order_do_not_shorten_it(clock: BootClock) -> None:
    lease = held_lease(clock)
    lease.renew(clock.seconds - 5)
    assert lease.age_seconds == 0


def test_a_dropped_lease_is_over_at_once(clock: BootClock) -> None:
    lease = held_lease(clock)
    lease.drop()
    assert not lease.is_held()


async def test_who_asks_for_a_lapsed_lease_waits_until_it_is_renewed(clock: BootClock) -> None:
    lease = held_lease(clock)
    await lease.held()
    clock.seconds += 8
    waiting = [asyncio.create_task(lease.held()) for _ in range(3)]
    lease.renew(clock.seconds - 7.5)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not any(w.done() for w in waiting)
    lease.renew(clock.seconds)
    await asyncio.gather(*waiting)
