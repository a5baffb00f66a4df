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
        self._patience = ALARM_SESSIONS * options.session_timeout_seconds
        self._looked = 0.0
        self._since: dict[TopicPartition, float] = {}
        """What nobody reads, and since when this worker knows."""
        self._renewed = False
        self._unread: tuple[str, ...] = ()
        """Partitions that nobody has read for so long that somebody has to be told."""
        self._apart_since: float | None = None
        self._elsewhere: tuple[str, ...] = ()
        """Groups and clusters in which workers of the same database have read for so long."""

    @property
    def problem(self) -> str | None:
        if self._elsewhere:
            return (
                f"another worker of this database reads in {', '.join(self._elsewhere)}: give all "
                "workers the same KAFKA_BOOTSTRAP_SERVERS and KAFKA_GROUP_ID"
            )
        if not self._unread:
            return None
        return (
            f"no worker of this service reads {', '.join(self._unread)}: another consumer in group "
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
            # What the others said meanwhile is unknown.
            self._since, self._apart_since = {}, None
            return
        if self._group.admit_earlier_releases(any(peer.intake is None for peer in peers)):
            self.join_again()
        before = self.problem
        self._note(unread(said, peers), now)
        self._compare(said, peers, now)
        self._tell(before)
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
        return Intake(
            cluster=self._group.cluster_id,
            group=self._options.group_id,
            topics=counts,
            reads=reads,
        )

    def _note(self, found: frozenset[TopicPartition], now: float) -> None:
        self._since = {p: self._since.get(p, now) for p in found}
        self._unread = tuple(
            f"{p.topic}/{p.partition}"
            for p in sorted(found)
            if now - self._since[p] >= self._patience
        )
        metrics.KAFKA_UNREAD.set(len(self._unread))

    def _compare(self, said: Intake, peers: Sequence[Peer], now: float) -> None:
        found = elsewhere(said, peers)
        self._apart_since = (self._apart_since or now) if found else None
        is_lasting = self._apart_since is not None and now - self._apart_since >= self._patience
        self._elsewhere = found if is_lasting else ()

    def _tell(self, before: str | None) -> None:
        if self.problem and not before:
            log.error("intake is incomplete", reason=self.problem)
        elif before and not self.problem:
            log.info("intake is complete again")

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


def elsewhere(said: Intake, peers: Sequence[Peer]) -> tuple[str, ...]:
    """The other groups and clusters in which workers of the same database read."""
    intakes = [peer.intake for peer in peers if peer.intake and peer.intake.cluster]
    places = {(i.group, i.cluster) for i in intakes} - {(said.group, said.cluster)}
    return tuple(f"group {group!r} of cluster {cluster}" for group, cluster in sorted(places))
