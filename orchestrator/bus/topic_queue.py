"""One output topic's share of the outbox: its own producer, its own waiting, its own refusals.

Promise: the rows of a topic go out in their order, and what one topic refuses delays no other. A
message that Kafka refuses whatever is tried is set aside in PostgreSQL; all others wait in the
outbox until Kafka takes them.
"""

import time
from collections.abc import Callable, Sequence

from orchestrator.bus.connection import kafka_errors
from orchestrator.bus.headers import headers_to_text
from orchestrator.bus.options import BusOptions
from orchestrator.bus.outgoing import Outgoing, encode
from orchestrator.bus.producer import ProducerLife
from orchestrator.bus.refusals import is_of_one_message, told
from orchestrator.bus.shipment import Shipped, ship
from orchestrator.bus.topics import ensure_topics
from orchestrator.domain.errors import InvalidSettings, KafkaUnavailable
from orchestrator.store import outbox
from orchestrator.store.database import Database
from orchestrator.telemetry import metrics
from orchestrator.telemetry.logs import get_logger
from orchestrator.telemetry.outage import Outage

log = get_logger(__name__)

SMALLEST_BYTES = 16 * 1024
SINGLY_SECONDS = 30.0
"""After a refusal messages are sent one by one for so long: a batch fails as a whole."""
ROUND_SECONDS = 0.3
"""Of a round of single messages; the next one begins where it ended."""


class TopicQueue:
    """Of one topic. One `publish` at a time: nothing overtakes."""

    def __init__(
        self, topic: str, *, database: Database, options: BusOptions, is_alive: Callable[[], bool]
    ) -> None:
        self._topic = topic
        self._database = database
        self._options = options
        self._is_alive = is_alive
        self._life = ProducerLife(options)
        self._max_bytes = options.max_publish_bytes
        self._is_singly = False
        self._singly_until = 0.0
        self._outage = Outage("Kafka", during=f"publishing to {topic}")
        self._rests_until = 0.0
        self._done: set[int] = set()
        """Rows that Kafka acknowledged, and that are still there."""
        self._letters: list[outbox.Letter] = []
        """What they leave to other queues."""

    @property
    def problem(self) -> str | None:
        return self._outage.reason

    @property
    def rest_seconds(self) -> float:
        """How long this queue waits before it tries again; 0 when it may be tried."""
        return max(0.0, self._rests_until - time.monotonic())

    def try_now(self) -> None:
        """Ends its waiting."""
        self._rests_until = 0.0

    def nothing_waits(self) -> None:
        """Ends what was wrong: nobody waits for this topic any more."""
        self._outage.is_over()

    async def close(self) -> None:
        await self._life.close()

    async def publish(self, rows: Sequence[outbox.OutboxRow]) -> int:
        """Sends rows and removes them; answers how many are no longer in the outbox.

        Raises:
            StoreUnavailable: some may have been sent, and will be again.
        """
        try:
            gone = await self._publish(rows)
        except (KafkaUnavailable, InvalidSettings) as error:
            self._rests_until = time.monotonic() + self._outage.failed(error)
            return 0
        if gone:
            self._outage.is_over()
        return gone

    async def _publish(self, rows: Sequence[outbox.OutboxRow]) -> int:
        removed = await self._remove()
        messages = [m for row in rows if row.id not in removed for m in self._encode(row)]
        own = [m for m in messages if m.topic == self._topic]
        empty = {row.id for row in rows} - {m.row for m in own} - removed
        shipped, refused = await self._send(own)
        # First: whatever fails below, what went out is known.
        self._done |= (done := shipped.rows | empty)
        self._letters += [_letter(m) for m in messages if m.topic != self._topic and m.row in done]
        await self._set_aside(refused)
        await self._remove()
        for topic, count in shipped.messages.items():
            metrics.PUBLISHED.labels(topic).inc(count)
        if shipped.errors:
            await self._failed(shipped)
        return len(done) + len(refused)

    async def _remove(self) -> set[int]:
        """Removes what is published; where that fails, later: it is not published once more."""
        if self._done:
            await outbox.delete(self._database, sorted(self._done), letters=self._letters)
        removed, self._done, self._letters = self._done, set(), []
        return removed

    def _encode(self, row: outbox.OutboxRow) -> Sequence[Outgoing]:
        # A letter keeps its original: it is cut to what the options say, never to what the topic
        # happens to take. An update can be cut, for its whole is in the journal.
        is_letter = isinstance(row, outbox.Letter)
        max_bytes = self._options.max_publish_bytes if is_letter else self._max_bytes
        return encode(row, self._options, max_bytes=max_bytes)

    async def _send(self, messages: Sequence[Outgoing]) -> tuple[Shipped, dict[int, str]]:
        """What was acknowledged, and the rows refused with their reasons."""
        if not messages:
            return Shipped.of(self._topic, ()), {}
        if not self._life.is_open:
            await ensure_topics(self._options, [self._topic])
        await self._life.current()
        if not self._is_alive():
            return Shipped.of(self._topic, ()), {}
        with kafka_errors(f"publish to topic {self._topic!r}"):
            if self._is_singly:
                return await self._send_singly(messages)
            return await self._ship(messages), {}

    async def _ship(self, messages: Sequence[Outgoing]) -> Shipped:
        return await ship(
            await self._life.current(),
            messages,
            max_bytes=self._max_bytes,
            patience_seconds=self._options.publish_timeout_seconds,
        )

    async def _send_singly(self, messages: Sequence[Outgoing]) -> tuple[Shipped, dict[int, str]]:
        deadline = time.monotonic() + ROUND_SECONDS
        sent: set[int] = set()
        refused: dict[int, str] = {}
        for message in messages:
            if time.monotonic() > deadline or not self._is_alive():
                break
            shipped = await self._ship([message])
            if not shipped.errors:
                sent |= shipped.rows
            elif is_of_one_message(shipped.errors[0]) and not self._can_shrink(shipped):
                refused[message.row] = told(shipped.errors[0])
            else:
                return Shipped.of(self._topic, sent, errors=shipped.errors), refused
        return Shipped.of(self._topic, sent), refused

    def _can_shrink(self, shipped: Shipped) -> bool:
        is_cut = self._topic == self._options.topics.task_updates
        return shipped.was_too_large and is_cut and self._max_bytes > SMALLEST_BYTES

    async def _set_aside(self, refused: dict[int, str]) -> None:
        now = time.monotonic()
        if refused:
            self._singly_until = now + SINGLY_SECONDS
            await outbox.set_aside(self._database, refused, topic=self._topic)
            metrics.PUBLISH_REFUSED.labels(self._topic).inc(len(refused))
            log.error(
                "Kafka refuses messages: they are set aside",
                topic=self._topic,
                count=len(refused),
                reason=next(iter(refused.values())),
                then="correct the topic, then run `orchestrator outbox retry`",
            )
        elif self._is_singly and now > self._singly_until:
            await self._switch(is_singly=False)

    async def _failed(self, shipped: Shipped) -> None:
        if self._can_shrink(shipped):
            self._max_bytes = max(SMALLEST_BYTES, self._max_bytes // 2)
            log.warning("Kafka refuses a batch as too large", max_bytes_now=self._max_bytes)
            await self._life.replace()
        elif not self._is_singly and any(map(is_of_one_message, shipped.errors)):
            await self._switch(is_singly=True)
        else:
            await self._life.replace()
            with kafka_errors(f"publish to topic {self._topic!r}"):
                raise shipped.errors[0]

    async def _switch(self, *, is_singly: bool) -> None:
        """Between batches and single messages.

        A refusal leaves a hole in an idempotent producer's numbers, so that it would need another
        producer for each. One message in flight keeps its order without numbers.
        """
        await self._life.close()
        self._is_singly = is_singly
        self._singly_until = time.monotonic() + SINGLY_SECONDS
        self._life = ProducerLife(self._options, is_idempotent=not is_singly)


def _letter(message: Outgoing) -> outbox.Letter:
    """A message for another topic, as a row of that topic's queue."""
    return outbox.Letter(
        id=message.row,
        topic=message.topic,
        key=message.key,
        value=message.value,
        headers=headers_to_text(message.headers),
    )
