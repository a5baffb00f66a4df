"""Who of the service reads which partition: told in PostgreSQL, and looked at by each worker.

What nobody of ours reads, another consumer in the group may have taken: Kafka calls that well.
"""

import time
from collections.abc import Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition

from orchestrator.bus.group import Group
from orchestrator.bus.ingest import Engine
from orchestrator.bus.options import BusOptions
from orchestrator.bus.rebalance import Assignment
from orchestrator.domain.errors import StoreUnavailable
from orchestrator.store import service
from orchestrator.store.database import Database
from orchestrator.store.service import Intake, Peer
from orchestrator.telemetry import metrics
from orchestrator.telemetry.logs import get_logger

log = get_logger(__name__)

INTERVAL_SECONDS = 5.0
RENEW_SESSIONS, ALARM_SESSIONS = 1.5, 3.0
"""For how many sessions of the group a partition is unread before the group shares them out anew,
and before somebody is told: a member that died is missed for one session."""


class Readers:
    """Of one consumer; `look` costs nothing between its intervals."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        assignment: Assignment,
        *,
        database: Database,
        options: BusOptions,
        engine: Engine,
        group: Group,
    ) -> None:
        self._consumer = consumer
        self._assignment = assignment
        self._database = database
        self._options = options
        self._engine = engine
        self._group = group
        self._interval = min(INTERVAL_SECONDS, options.session_timeout_seconds / 2)
        self._looked = 0.0
        self._since: dict[TopicPartition, float] = {}
        """What nobody reads, and since when this worker knows."""
        self._renewed = False
        self.unread: tuple[str, ...] = ()
        """Partitions that nobody has read for so long that somebody has to be told."""

    @property
    def problem(self) -> str | None:
        if not self.unread:
            return None
        return (
            f"no worker of this service reads {', '.join(self.unread)}: another consumer in group "
            f"{self._options.group_id!r} may have taken them; stop it"
        )

    async def look(self) -> None:
        """Tells what is read here, and looks at what the others say."""
        now = time.monotonic()
        if not self._assignment.is_joined or now - self._looked < self._interval:
            return
        self._looked = now
        said = self._said()
        try:
            peers = await service.tell(self._database, self._engine.worker(), said)
        except StoreUnavailable:
            peers = None
        if peers is None:
            self._since.clear()  # what the others said meanwhile is unknown
            return
        if self._group.admit_earlier_releases(any(peer.intake is None for peer in peers)):
            self.join_again()
        self._note(unread(said, peers), now)
        self._act(peers, now)

    def join_again(self) -> None:
        """The group shares out its partitions anew."""
        self._group.renew()
        self._consumer.subscribe(self._options.topics.inputs, listener=self._assignment)

    def close(self) -> None:
        metrics.KAFKA_UNREAD.set(0)

    def _said(self) -> Intake:
        counts = {
            topic: len(self._consumer.partitions_for_topic(topic) or ())
            for topic in self._options.topics.inputs
        }
        reads = frozenset((p.topic, p.partition) for p in self._assignment.all)
        return Intake(cluster=self._group.cluster_id, topics=counts, reads=reads)

    def _note(self, found: frozenset[TopicPartition], now: float) -> None:
        self._since = {p: self._since.get(p, now) for p in found}
        patience = ALARM_SESSIONS * self._options.session_timeout_seconds
        before = self.unread
        self.unread = tuple(
            f"{p.topic}/{p.partition}" for p in sorted(found) if now - self._since[p] >= patience
        )
        metrics.KAFKA_UNREAD.set(len(self.unread))
        if self.unread and not before:
            log.error("partitions are not read", reason=self.problem)
        elif before and not self.unread:
            log.info("all partitions are read again")

    def _act(self, peers: Sequence[Peer], now: float) -> None:
        """One worker has the group share out its partitions, once: it may have been outdated."""
        patience = RENEW_SESSIONS * self._options.session_timeout_seconds
        is_due = any(now - since >= patience for since in self._since.values())
        is_first = self._engine.worker() < min((p.id for p in peers), default=1 << 63)
        if is_due and is_first and not self._renewed:
            log.warning("partitions are not read: the group shares them out anew")
            self.join_again()
        self._renewed = is_due


def unread(said: Intake, peers: Sequence[Peer]) -> frozenset[TopicPartition]:
    """Partitions that no worker reads; none as long as one does not say what it reads."""
    read = set(said.reads)
    for peer in peers:
        if peer.intake is None:
            return frozenset()
        if peer.intake.cluster == said.cluster:
            read |= peer.intake.reads
    return frozenset(
        TopicPartition(topic, number)
        for topic, count in said.topics.items()
        for number in range(count)
        if (topic, number) not in read
    )
