"""Whether a worker may still act, by a clock that the test moves."""

import asyncio
import sys
import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from orchestrator.engine.clock import boot_seconds
from orchestrator.engine.lease import Lease


class Hand:
    """A clock's hand: it stands where the test puts it."""

    def __init__(self, seconds: float = 100.0) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def lease(hand: Hand) -> Lease:
    return Lease(timedelta(seconds=7), seconds=hand)


def test_a_lease_is_not_held_before_the_first_heartbeat(lease: Lease) -> None:
    assert not lease.is_held()
    assert lease.age_seconds == float("inf")


def test_a_lease_ends_when_no_heartbeat_came_for_the_fence(lease: Lease, hand: Hand) -> None:
    lease.renew(100.0)
    hand.seconds = 106.99
    assert lease.is_held()
    hand.seconds = 107.0
    assert not lease.is_held()


def test_a_lease_counts_from_the_sending_of_the_heartbeat_not_its_answer(
    lease: Lease,
    hand: Hand,
) -> None:
    hand.seconds = 103.0
    lease.renew(100.0)
    assert lease.age_seconds == 3.0


def test_a_heartbeat_that_was_overtaken_does_not_set_the_lease_back(
    lease: Lease, hand: Hand
) -> None:
    lease.renew(105.0)
    lease.renew(101.0)
    hand.seconds = 106.0
    assert lease.age_seconds == 1.0


def test_a_dropped_lease_is_not_held_until_it_is_renewed(lease: Lease) -> None:
    lease.renew(100.0)
    lease.drop()
    assert not lease.is_held()
    lease.renew(100.0)
    assert lease.is_held()


async def test_who_needs_the_lease_goes_on_at_once_while_it_is_held(lease: Lease) -> None:
    lease.renew(100.0)
    async with asyncio.timeout(1):
        await lease.held()


async def test_who_needs_the_lease_waits_until_it_is_held_again(lease: Lease) -> None:
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


@pytest.mark.parametrize(
    ("platform", "never_set"),
    [
        ("linux", lambda: time.clock_gettime(time.CLOCK_BOOTTIME)),
        ("darwin", time.monotonic),
    ],
)
def test_the_clock_of_a_lease_is_one_that_nobody_sets(
    platform: str, never_set: Callable[[], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert never_set() <= boot_seconds() <= never_set()


def test_a_lease_that_was_regained_is_steady_again_only_after_a_while(
    lease: Lease, hand: Hand
) -> None:
    lease.renew(100.0)
    assert lease.is_steady(timedelta(seconds=10))
    hand.seconds = 120.0
    lease.renew(120.0)
    assert lease.is_held()
    assert not lease.is_steady(timedelta(seconds=10))
    hand.seconds = 126.0
    lease.renew(126.0)
    hand.seconds = 130.0
    assert lease.is_steady(timedelta(seconds=10))


@pytest.mark.parametrize(
    ("silence", "cpu", "stood_still"),
    [
        pytest.param(20.0, 1.5, True, id="frozen"),
        pytest.param(20.0, 15.0, False, id="a-task-kept-the-processor-busy"),
        pytest.param(6.0, 0.1, False, id="not-silent-for-a-fence"),
    ],
)
def test_a_worker_stood_still_where_it_was_silent_and_did_not_compute(
    hand: Hand, silence: float, cpu: float, *, stood_still: bool
) -> None:
    processor = Hand(5.0)
    lease = Lease(timedelta(seconds=7), seconds=hand, cpu_seconds=processor)
    hand.seconds += 50
    lease.renew(hand.seconds)
    hand.seconds += silence
    processor.seconds += cpu
    lease.drop()
    assert lease.stood_still() is stood_still
    lease.renew(hand.seconds)
    assert not lease.stood_still()


def test_an_answer_that_comes_after_the_silence_does_not_end_it(hand: Hand) -> None:
    lease = Lease(timedelta(seconds=7), seconds=hand, cpu_seconds=Hand(5.0))
    lease.renew(hand.seconds)
    sent_at = hand.seconds + 1
    hand.seconds += 20
    lease.renew(sent_at)
    assert lease.stood_still()
