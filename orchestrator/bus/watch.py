"""Lag, open transactions, silence; and the watchdog, which has a stalled consumer built anew."""

import time
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition

from orchestrator.bus.connection import CLIENT_ERRORS, answered_within
from orchestrator.bus.options import BusOptions
from orchestrator.bus.rebalance import Assignment
from orchestrator.bus.transactions import PATIENCE_SECONDS, blocked_text, open_transactions
from orchestrator.domain.errors import KafkaUnavailable
from orchestrator.telemetry import metrics
from orchestrator.telemetry.logs import get_logger

log = get_logger(__name__)

INTERVAL_SECONDS = 5.0
BREAK_SECONDS = 2.0
"""Between two looks at the silence: after a longer break it counts from the later one."""
TIMEOUT_SECONDS = 5.0


class Watch:
    """Of one consumer; `check` costs nothing between its intervals."""

    def __init__(
        self, consumer: AIOKafkaConsumer, assignment: Assignment, options: BusOptions
    ) -> None:
        self._consumer = consumer
        self._assignment = assignment
        self._patience = options.stalled_after_seconds
        self._progress = time.monotonic()
        self._checked = time.monotonic()
        self._shown: set[TopicPartition] = set()
        self._blocked: dict[TopicPartition, tuple[int, float]] = {}
        """At which offset an open transaction stands before messages, and since when we know."""
        self._told: set[tuple[TopicPartition, int]] = set()
        self._answered_ms = 0
        """When Kafka last answered a fetch, by its client."""
        self._heard = self._listened = time.monotonic()

    def progressed(self, partitions: Mapping[TopicPartition, int]) -> None:
        if partitions:
            self._progress = time.monotonic()

    async def check(self, *, is_paused: bool) -> None:
        """Shows the lag.

        Raises:
            KafkaUnavailable: there are messages, and none came for a long time.
        """
        now = time.monotonic()
        if is_paused or not self._assignment.positions:
            self._progress = now  # standing still on purpose
        if now - self._checked < INTERVAL_SECONDS:
            return
        self._checked = now
        self._show()
        self._look_for_transactions(now)
        await self._tell_of_transactions(now)
        if now - self._progress > self._patience and await self._has_more():
            raise KafkaUnavailable(
                f"Kafka: no message came for {self._patience:g} s although there are some: "
                "the consumer is built anew"
            )

    def silence_seconds(self, *, is_paused: bool) -> float:
        """For how long Kafka has answered no fetch; 0 while none is asked of it.

        Its client retries for ever and raises nothing, so an absent broker is known by this alone.
        """
        now = time.monotonic()
        has_paused, self._listened = now - self._listened > BREAK_SECONDS, now
        assigned = self._consumer.assignment()
        placed = [p for p in self._assignment.positions if p in assigned]
        answered = max((self._consumer.last_poll_timestamp(p) or 0 for p in placed), default=0)
        if is_paused or has_paused or not placed or answered != self._answered_ms:
            self._answered_ms, self._heard = answered, now
        return now - self._heard

    def close(self) -> None:
        """No partition is ours any more: their lag is another's to show."""
        self._remove(self._shown)

    def _show(self) -> None:
        placed = set(self._assignment.positions)
        self._remove(self._shown - placed)
        self._shown = placed
        for partition, position in self._assignment.positions.items():
            if partition in self._consumer.assignment():
                # Kafka tells it with each answer; None before the first.
                end = self._consumer.highwater(partition) or position
                metrics.KAFKA_LAG.labels(*partition).set(max(0, end - position))

    def _look_for_transactions(self, now: float) -> None:
        """A partition of which everything is read but what an open transaction stands before."""
        before, self._blocked = self._blocked, {}
        for partition, position in self._assignment.positions.items():
            if partition not in self._consumer.assignment():
                continue
            end = self._consumer.highwater(partition) or 0
            stable = self._consumer.last_stable_offset(partition)
            is_blocked = stable is not None and position == stable < end
            metrics.KAFKA_BLOCKED.labels(*partition).set(end - position if is_blocked else 0)
            if is_blocked:
                at, since = before.get(partition, (position, now))
                self._blocked[partition] = (position, since if at == position else now)

    async def _tell_of_transactions(self, now: float) -> None:
        self._told &= {(p, at) for p, (at, _) in self._blocked.items()}
        for partition, (at, since) in self._blocked.items():
            if now - since < PATIENCE_SECONDS or (partition, at) in self._told:
                continue
            self._told.add((partition, at))
            behind = (self._consumer.highwater(partition) or at) - at
            try:
                async with answered_within(self._consumer, TIMEOUT_SECONDS):
                    found = await open_transactions(self._consumer._client, partition)  # noqa: SLF001
            except TimeoutError:
                found = []
            text = blocked_text(partition, at=at, behind=behind, found=found)
            log.warning("messages wait behind an open transaction", what=text)

    def _remove(self, partitions: set[TopicPartition]) -> None:
        for partition in partitions:
            metrics.KAFKA_LAG.remove(*map(str, partition))
            metrics.KAFKA_BLOCKED.remove(*map(str, partition))

    async def _has_more(self) -> bool:
        positions = dict(self._assignment.positions)
        try:
            async with answered_within(self._consumer, TIMEOUT_SECONDS):
                ends = await self._consumer.end_offsets(list(positions))
        except (*CLIENT_ERRORS, TimeoutError):
            return False  # an absent broker is no stalled consumer
        self._progress = time.monotonic()
        return any(ends[p] > position for p, position in positions.items())
