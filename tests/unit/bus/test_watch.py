"""The watchdog: who stands still beside unread messages is built anew, and nobody else."""

import asyncio
from collections.abc import Sequence

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from orchestrator.bus import watch
from orchestrator.bus.options import BusOptions
from orchestrator.bus.polling import MAX_FAILURES, Polling
from orchestrator.bus.rebalance import Assignment
from orchestrator.bus.watch import Watch
from orchestrator.domain.errors import KafkaUnavailable

PLACE = TopicPartition("tasks", 0)
PATIENCE_SECONDS = 60.0


class FakeConsumer:
    """Has one partition; answers what it is told to."""

    def __init__(self) -> None:
        self.end = 10
        self.error: Exception | None = None
        self.is_frozen = False
        self.answered_ms = 1
        # Of aiokafka's own parts: the task that fetches lives, and no connection is open.
        self.error_future: asyncio.Future[None] = asyncio.Future()
        self._conns: dict[object, object] = {}

    @property
    def _fetcher(self) -> "FakeConsumer":
        return self

    @property
    def _client(self) -> "FakeConsumer":
        return self

    def assignment(self) -> set[TopicPartition]:
        return {PLACE}

    def pause(self, *_: TopicPartition) -> None: ...

    resume = seek = pause

    def highwater(self, _: TopicPartition) -> int:
        return self.end

    last_stable_offset = highwater

    def last_poll_timestamp(self, _: TopicPartition) -> int:
        return self.answered_ms

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        if self.is_frozen:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        return dict.fromkeys(partitions, self.end)

    async def getmany(self, *_: TopicPartition, **__: object) -> dict[TopicPartition, list[object]]:
        if self.is_frozen:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        return {}


class Time:
    """The clock that the watchdog counts by."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    clock = Time()
    monkeypatch.setattr(watch, "time", clock)
    monkeypatch.setattr(watch, "TIMEOUT_SECONDS", 0.05)
    return clock


def watching(consumer: FakeConsumer, *, position: int = 5) -> Watch:
    assignment = Assignment(consumer)
    assignment.positions[PLACE] = position
    options = BusOptions(stalled_after_seconds=PATIENCE_SECONDS)
    return Watch(consumer, assignment, options)


def polling_of(consumer: FakeConsumer) -> Polling:
    return Polling(
        consumer,
        Assignment(consumer),
        batch_messages=1,
        batch_bytes=1_000_000,
        patience_seconds=0.05,
        stopping=asyncio.Event(),
    )


async def test_a_consumer_that_stands_still_beside_messages_is_given_up(clock: Time) -> None:
    watcher = watching(FakeConsumer())
    clock.now += PATIENCE_SECONDS - 1
    await watcher.check(is_paused=False)
    clock.now += 6
    with pytest.raises(KafkaUnavailable, match="no message came for 60 s although there are some"):
        await watcher.check(is_paused=False)


async def test_a_consumer_that_moves_is_left_alone(clock: Time) -> None:
    watcher = watching(FakeConsumer())
    for _ in range(5):
        clock.now += PATIENCE_SECONDS - 1
        watcher.progressed({PLACE: 6})
        await watcher.check(is_paused=False)


async def test_a_consumer_that_has_read_everything_is_left_alone(clock: Time) -> None:
    watcher = watching(FakeConsumer(), position=10)
    for _ in range(5):
        clock.now += PATIENCE_SECONDS + 1
        await watcher.check(is_paused=False)


async def test_a_consumer_that_is_held_on_purpose_is_left_alone(clock: Time) -> None:
    watcher = watching(FakeConsumer())
    for _ in range(5):
        clock.now += PATIENCE_SECONDS + 1
        await watcher.check(is_paused=True)


async def test_a_frozen_broker_is_no_stalled_consumer(clock: Time) -> None:
    consumer = FakeConsumer()
    consumer.is_frozen = True
    watcher = watching(consumer)
    clock.now += PATIENCE_SECONDS + 1
    async with asyncio.timeout(2):
        await watcher.check(is_paused=False)


async def test_an_absent_broker_is_no_stalled_consumer(clock: Time) -> None:
    consumer = FakeConsumer()
    consumer.error = KafkaConnectionError("gone")
    watcher = watching(consumer)
    clock.now += PATIENCE_SECONDS + 1
    await watcher.check(is_paused=False)


async def test_a_broker_that_answers_no_fetch_is_silent(clock: Time) -> None:
    consumer = FakeConsumer()
    watcher = watching(consumer)
    silences = []
    for _ in range(4):
        clock.now += 1
        silences.append(watcher.silence_seconds(is_paused=False))
    consumer.answered_ms += 1
    assert silences == [0, 1, 2, 3]
    assert watcher.silence_seconds(is_paused=False) == 0


async def test_what_uvloop_says_of_a_connection_that_was_reset_ends_the_consumer_alone() -> None:
    consumer = FakeConsumer()
    consumer.error = RuntimeError("unable to perform operation: the handler is closed")
    polling = polling_of(consumer)
    for _ in range(MAX_FAILURES - 1):
        assert await polling.poll(timeout_ms=10) == {}
    with pytest.raises(KafkaUnavailable, match="the handler is closed"):
        await polling.poll(timeout_ms=10)


async def test_a_poll_that_comes_to_no_end_gives_the_consumer_up() -> None:
    consumer = FakeConsumer()
    consumer.is_frozen = True
    polling = polling_of(consumer)
    async with asyncio.timeout(2):
        with pytest.raises(KafkaUnavailable, match="came to no assignment"):
            await polling.poll(timeout_ms=10)


async def test_a_client_that_fetches_no_more_is_given_up_at_once() -> None:
    consumer = FakeConsumer()
    consumer.error_future.cancel()
    with pytest.raises(KafkaUnavailable, match="the client fetches no more"):
        await polling_of(consumer).poll(timeout_ms=1)
