"""What the first signal does to a process, the second, and a gentle end that takes too long."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from orchestrator.cli import signals
from orchestrator.cli.signals import Stop


@asynccontextmanager
async def work(
    stop: Stop, *, end: Callable[[], None] | None = None, within_seconds: float = 60.0
) -> AsyncIterator["asyncio.Task[None]"]:
    """A process's work, which nothing but a cancellation ends."""
    begun = asyncio.Event()

    async def run() -> None:
        with stop.listening():
            if end is not None:
                stop.ends_gently(end, within_seconds=within_seconds)
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(run())
    try:
        async with asyncio.timeout(5):
            await begun.wait()
            yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def make_same_signal_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on a second signal is never taken for the first one, handed on."""
    monkeypatch.setattr(signals, "SAME_SECONDS", -1.0)


async def test_before_any_work_has_begun_a_signal_cancels() -> None:
    stop = Stop()
    async with work(stop) as task:
        stop.ask()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert stop.is_asked
    assert not stop.is_forced


async def test_the_first_signal_ends_the_work_gently() -> None:
    stop, ended = Stop(), asyncio.Event()
    async with work(stop, end=ended.set) as task:
        stop.ask()
        await settle()
        assert ended.is_set()
        assert not task.done()
    assert (stop.is_asked, stop.is_forced) == (True, False)


async def test_the_second_signal_ends_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    make_same_signal_short(monkeypatch)
    stop, ends = Stop(), list[str]()
    async with work(stop, end=lambda: ends.append("gently")) as task:
        stop.ask()
        stop.ask()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert ends == ["gently"]
    assert stop.is_forced


async def test_the_same_signal_handed_on_by_a_parent_is_one() -> None:
    stop, ends = Stop(), list[str]()
    async with work(stop, end=lambda: ends.append("gently")) as task:
        for _ in range(3):
            stop.ask()
        await settle()
        assert not task.done()
    assert ends == ["gently"]
    assert not stop.is_forced


async def test_a_gentle_end_that_takes_too_long_is_ended_at_once() -> None:
    stop = Stop()
    async with work(stop, end=lambda: None, within_seconds=0.01) as task:
        stop.ask()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert stop.is_forced


async def test_cleaning_up_is_not_broken_off_by_further_signals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_same_signal_short(monkeypatch)
    stop, cleaned, begun = Stop(), asyncio.Event(), asyncio.Event()

    async def run() -> None:
        with stop.listening():
            stop.ends_gently(lambda: None, within_seconds=60.0)
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                await settle()
                cleaned.set()

    task = asyncio.create_task(run())
    await begun.wait()
    for _ in range(4):
        stop.ask()
        await asyncio.sleep(0)
    await asyncio.gather(task, return_exceptions=True)
    assert cleaned.is_set()


async def test_a_signal_that_came_before_the_work_knows_how_to_end_is_not_lost() -> None:
    stop, ended = Stop(), asyncio.Event()
    stop.ask()
    stop.ends_gently(ended.set, within_seconds=60.0)
    assert ended.is_set()
    assert not stop.is_forced


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signals_are_heard_while_listening_and_not_after(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    stop, ended = Stop(), asyncio.Event()
    async with work(stop, end=ended.set, within_seconds=60.0):
        os.kill(os.getpid(), number)
        async with asyncio.timeout(5):
            await ended.wait()
        assert stop.is_asked
    after = signal.getsignal(number)
    assert after == (signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    signal.signal(number, before)
