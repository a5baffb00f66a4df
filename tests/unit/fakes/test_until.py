"""Waiting for a condition: it ends, and a machine that stands still does not end it early."""

import time

import pytest

from tests.fakes.bus import until


async def test_what_never_comes_true_fails_and_is_named() -> None:
    with pytest.raises(AssertionError, match=r"the day did not come true within 0.1 s"):
        await until(lambda: False, seconds=0.1, what="the day")


async def test_a_machine_that_stands_still_is_charged_once() -> None:
    looks = 0

    def third() -> bool:
        nonlocal looks
        looks += 1
        time.sleep(0.4 if looks == 1 else 0)  # words: what is tested
        return looks == 3

    await until(third, seconds=0.3)


async def test_a_processor_that_is_kept_busy_is_charged_in_full() -> None:
    def keeps_it_busy() -> bool:
        end = time.thread_time() + 0.4
        while time.thread_time() < end:
            pass
        return False

    with pytest.raises(AssertionError):
        await until(keeps_it_busy, seconds=0.3)
