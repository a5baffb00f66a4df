"""A poll's messages → PostgreSQL (T1): what the database refuses is found and set aside.

A partition's position moves with its messages, never beyond one that is neither in nor set aside.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from orchestrator.bus.dead_letters import ERROR, REASON
from orchestrator.bus.duplicates import tell_other_contents
from orchestrator.bus.headers import first
from orchestrator.bus.intake import Part, Reader, halves, to_batch
from orchestrator.bus.options import BusOptions
from orchestrator.domain.errors import StoreRejected
from orchestrator.domain.ids import WorkerId
from orchestrator.store.database import Database
from orchestrator.store.ingest import Batch, DeadLetter, Ingested, NewEvent, NewTask, ingest
from orchestrator.store.positions import TopicPartition
from orchestrator.telemetry import metrics
from orchestrator.telemetry.logs import get_logger

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What intake asks of who runs the tasks, and tells him."""

    worker: Callable[[], WorkerId]
    room: Callable[[], int]
    """How many more tasks may be claimed here, at this moment."""
    ingested: Callable[[Ingested], None]
    """Told after each statement; must not block."""
    reject_more: Callable[[], bool]
    """While true nothing more is read."""


class Ingest:
    """Writes parts; one that is too large or holds a message that is refused goes in pieces."""

    def __init__(
        self, database: Database, options: BusOptions, *, engine: Engine, reader: Reader
    ) -> None:
        self._database = database
        self._options = options
        self._engine = engine
        self._reader = reader

    async def write(self, parts: Sequence[Part], *, cluster_id: str) -> frozenset[TopicPartition]:
        """The partitions whose messages are all in; the others have another owner.

        Raises:
            StoreUnavailable: some of it may be in. Writing the same again is safe.
        """
        lost: set[TopicPartition] = set()
        waiting = [list(parts)]
        while waiting:
            current = waiting.pop(0)
            count = sum(len(p.items) for p in current)
            if count > 1 and self._is_large(current, count):
                waiting[:0] = halves(current)
                continue
            try:
                moved = await self._write_once(to_batch(current, cluster_id=cluster_id))
            except StoreRejected as error:
                waiting[:0] = self._around(current, count, error)
                continue
            lost |= {(p.topic, p.partition) for p in current} - moved
        return frozenset((p.topic, p.partition) for p in parts) - lost

    def _is_large(self, parts: Sequence[Part], count: int) -> bool:
        size = sum(p.size_bytes for p in parts)
        return count > self._options.batch_messages or size > self._options.batch_bytes

    def _around(self, parts: list[Part], count: int, error: StoreRejected) -> list[list[Part]]:
        """The same messages in smaller pieces, or the one that was refused as a dead letter."""
        if count > 1:
            return list(halves(parts))
        if count == 0:
            raise error
        part = next(p for p in parts if p.items)
        item = part.items[0]
        if isinstance(item, DeadLetter):
            raise error
        log.warning("PostgreSQL refuses a message", source=item.origin.source, error=str(error))
        letter = self._reader.rejected(item, error)
        return [[replace(p, items=(letter,)) if p is part else p for p in parts]]

    async def _write_once(self, batch: Batch) -> frozenset[TopicPartition]:
        started = time.monotonic()
        result = await ingest(
            self._database,
            batch,
            worker=self._engine.worker(),
            room=max(0, self._engine.room()),
            expected_for=self._options.expected_for,
            shared_claims=self._options.shared_claims,
        )
        metrics.INGEST_SECONDS.observe(time.monotonic() - started)
        _count(batch, result.moved)
        self._engine.ingested(result)
        if result.dropped:
            written = [m for m in batch.messages if _place(m) in result.moved]
            await tell_other_contents(self._database, written, parse=self._reader.parse)
        return result.moved


def _place(item: NewTask | NewEvent | DeadLetter) -> TopicPartition:
    return item.origin.topic, item.origin.partition


def _count(batch: Batch, moved: frozenset[TopicPartition]) -> None:
    results: Counter[tuple[str, str]] = Counter()
    letters = []
    for item in (*batch.messages, *batch.dead_letters):
        if _place(item) not in moved:
            continue
        if isinstance(item, DeadLetter):
            result = "dead_letter"
            letters.append(item)
            metrics.DEAD_LETTERS.labels(first(item.headers, REASON) or "").inc()
        else:
            result = "accepted" if isinstance(item, NewTask) else "event"
        results[item.origin.topic, result] += 1
    for (topic, result), count in results.items():
        metrics.MESSAGES.labels(topic, result).inc(count)
    if letters:
        # One line a batch: a sender gone wrong must not fill the log.
        log.warning(
            "messages became dead letters",
            count=len(letters),
            first=letters[0].origin.source,
            reason=first(letters[0].headers, REASON),
            error=first(letters[0].headers, ERROR),
        )
