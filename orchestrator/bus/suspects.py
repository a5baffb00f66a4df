"""Messages that may kill whoever reads them: attempts are counted in PostgreSQL before each.

Only partitions are suspect whose last reader died without moving the position at which it began,
and where messages wait; all others cost one statement when they are assigned. At a suspect position
the partition is read alone: first as ever, and after another death message by message. What has
killed two readers that were counted is not read again: it becomes a dead letter.
"""

from collections.abc import Iterable, Set
from datetime import timedelta

from aiokafka import TopicPartition

from orchestrator.bus.ingest import Engine
from orchestrator.bus.options import BusOptions
from orchestrator.domain.errors import StoreUnavailable
from orchestrator.store import positions
from orchestrator.store.database import Database
from orchestrator.store.positions import Attempt
from orchestrator.telemetry.logs import get_logger

log = get_logger(__name__)

MAX_CRASHES = 2
SILENCE = 0.8
"""Of the session after which Kafka gives the partitions of a dead member to another."""


class Suspects:
    """Of one session. `first` says what to read with care before anything else is read."""

    def __init__(
        self, database: Database, options: BusOptions, *, engine: Engine, cluster_id: str
    ) -> None:
        self._database = database
        self._cluster_id = cluster_id
        self._worker = engine.worker
        self._silence = timedelta(seconds=SILENCE * options.session_timeout_seconds)
        self._batch_messages = options.batch_messages
        self._left: dict[TopicPartition, int] = {}
        """Of each suspect partition, how many messages are to be read one by one at most."""
        self._singly: set[TopicPartition] = set()

    async def place(
        self, partitions: Iterable[TopicPartition], *, waiting: Set[TopicPartition]
    ) -> None:
        """Notes that these are read here; where no messages wait none is suspect.

        Raises:
            StoreUnavailable: ask again later.
        """
        found = await positions.place(
            self._database,
            self._cluster_id,
            list(partitions),
            worker=self._worker(),
            silence=self._silence,
        )
        suspect = waiting & {TopicPartition(*place) for place in found}
        self._left |= dict.fromkeys(suspect, self._batch_messages)
        if suspect:
            log.warning(
                "the last reader died where it began: read with care",
                partitions=sorted(f"{topic}/{number}" for topic, number in suspect),
            )

    def first(self, placed: Iterable[TopicPartition]) -> TopicPartition | None:
        """A suspect partition that is placed here."""
        return min(self._left.keys() & set(placed), default=None)

    async def begin(self, partition: TopicPartition, position: int) -> Attempt | None:
        """Counts an attempt to read on; None where the position is another's by now."""
        attempt = await positions.mark(self._database, self._cluster_id, partition, position)
        if attempt is not None and attempt.number > 1:
            self._singly.add(partition)
        return attempt

    def is_singly(self, partition: TopicPartition) -> bool:
        return partition in self._singly

    async def fetched(self, partition: TopicPartition, position: int) -> None:
        """Notes that the message could be fetched: only its reading may still kill."""
        await positions.mark_fetched(self._database, self._cluster_id, partition, position)

    async def forgive(self, partition: TopicPartition, position: int) -> None:
        """Forgets the attempts: the message is not what they failed of."""
        await positions.clear(self._database, self._cluster_id, partition, position)

    async def survived(self, partition: TopicPartition, position: int, *, is_over: bool) -> None:
        """Notes that the attempt was no reader's death."""
        await self.forgive(partition, position)
        self._left[partition] = self._left.get(partition, 1) - 1
        if is_over or self._left[partition] < 1:
            self._left.pop(partition)
            self._singly.discard(partition)

    async def close(self, partitions: Iterable[TopicPartition]) -> None:
        """Notes that this reader ends well; where PostgreSQL is away, nobody needs to know."""
        try:
            await positions.leave(
                self._database, self._cluster_id, list(partitions), worker=self._worker()
            )
        except StoreUnavailable as error:
            log.info("the end of reading was not noted", reason=str(error))
