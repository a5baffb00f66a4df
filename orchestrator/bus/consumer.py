"""Kafka → PostgreSQL, for as long as the process lives: joins the group, and joins it again.

Promise: a message whose position moved is in PostgreSQL, once, whoever read it how often.
"""

import asyncio
import time
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer

from orchestrator.bus.connection import client_arguments, kafka_errors
from orchestrator.bus.group import Group, look_at_group, owner_problem, refusal, told_by
from orchestrator.bus.inflating import limit_batches
from orchestrator.bus.ingest import Engine
from orchestrator.bus.options import BusOptions
from orchestrator.bus.polling import GroupRefused
from orchestrator.bus.rest import rest
from orchestrator.bus.session import Session
from orchestrator.bus.topics import ensure_topics
from orchestrator.domain.errors import InvalidSettings, KafkaUnavailable, StoreUnavailable
from orchestrator.store.database import Database
from orchestrator.store.service import has_earlier_releases, identity
from orchestrator.telemetry import metrics
from orchestrator.telemetry.logs import get_logger
from orchestrator.telemetry.outage import Outage

log = get_logger(__name__)

FETCH_WAIT_MS = 250
"""How long a broker holds a fetch when there is nothing: a resumed partition waits for it."""
METADATA_MS = 30_000
"""How long a topic that got more partitions may go unseen."""
REFUSED_SESSIONS = 3.0
"""For how many sessions the group may refuse a worker that starts: killed members of another
database, from which the service was moved, are in it for one."""
LEAVE_SECONDS = 5.0
"""How long leaving the group may take: a frozen broker must not keep the process from ending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerState:
    """For the readiness probe and for people."""

    is_joined: bool = False
    partitions: tuple[str, ...] = ()
    """What is read here, as `topic/partition`."""
    problems: tuple[str, ...] = ()

    @property
    def is_ready(self) -> bool:
        return self.is_joined and not self.problems


class Consumer:
    """`run` until `stop`."""

    def __init__(self, database: Database, options: BusOptions, *, engine: Engine) -> None:
        self._database = database
        self._options = options
        self._engine = engine
        self._stopping = asyncio.Event()
        self._outage = Outage("Kafka", during="intake")
        self._postgres = Outage("PostgreSQL", during="intake")
        self._refused_since: float | None = None
        self._session: Session | None = None
        self._has_joined = False

    def stop(self) -> None:
        """Ends intake: what is read is written, offsets are committed, the group is left."""
        self._stopping.set()

    @property
    def state(self) -> ConsumerState:
        session = self._session
        if session is None:
            problems = (self._outage.reason, self._postgres.reason)
            return ConsumerState(problems=tuple(p for p in problems if p))
        assignment = session.assignment
        reasons = (session.postgres.reason, session.brokers.reason, session.fetches.reason)
        waiting = () if not assignment.unplaced else ("some partitions have no position yet",)
        return ConsumerState(
            is_joined=assignment.is_joined,
            partitions=tuple(f"{p.topic}/{p.partition}" for p in sorted(assignment.positions)),
            problems=(
                *(reason for reason in reasons if reason),
                *(gap.text for gap in assignment.gaps.values()),
                *filter(None, (session.readers.problem,)),
                *waiting,
            ),
        )

    async def run(self) -> None:
        """Returns after `stop`.

        Raises:
            InvalidSettings: before the first success, where trying again would not help.
        """
        while not self._stopping.is_set():
            try:
                await self._live()
            except GroupRefused:
                await self._refused()
            except StoreUnavailable as error:
                await rest(self._postgres.failed(error), until=self._stopping)
            except KafkaUnavailable as error:
                await rest(self._outage.failed(error), until=self._stopping)
            except InvalidSettings as error:
                # What worked may have been withdrawn for a moment (an ACL, a password).
                if not self._has_joined:
                    raise
                await rest(self._outage.failed(error), until=self._stopping)

    async def _live(self) -> None:
        # Only what is read here: an output topic that is gone must not stop the input.
        await ensure_topics(self._options, self._options.topics.inputs)
        owner = await identity(self._database)
        self._postgres.is_over()
        cluster, view = await look_at_group(self._options)
        if problem := owner_problem(self._options, view, owner):
            raise InvalidSettings(problem)
        group = Group(self._options, owner, cluster_id=cluster)
        group.admit_earlier_releases(await has_earlier_releases(self._database))
        consumer = new_consumer(self._options, group)
        session = Session(
            consumer,
            database=self._database,
            options=self._options,
            engine=self._engine,
            group=group,
            stopping=self._stopping,
        )
        try:
            with kafka_errors("join the group"):
                await consumer.start()
                consumer.subscribe(self._options.topics.inputs, listener=session.assignment)
            self._session = session
            while not self._stopping.is_set():
                await session.step()
                if session.assignment.is_joined:
                    self._has_joined = True
                    self._outage.is_over()
                    self._refused_since = None
                    metrics.GROUP_REFUSED.set(0)
        finally:
            self._session = None
            await _leave(consumer, session)

    async def _refused(self) -> None:
        """Waits; a worker that never was a member is to end, and to say why."""
        now = time.monotonic()
        self._refused_since = self._refused_since or now
        metrics.GROUP_REFUSED.set(1)
        why = refusal(self._options, await told_by(self._options))
        patience = REFUSED_SESSIONS * self._options.session_timeout_seconds
        if not self._has_joined and now - self._refused_since >= patience:
            raise InvalidSettings(why)
        await rest(self._outage.failed(GroupRefused(why)), until=self._stopping)


async def _leave(consumer: AIOKafkaConsumer, session: Session) -> None:
    leaving = asyncio.create_task(_stop(consumer, session), name="leave the group")
    # aiokafka's stop may end in the cancellation of one of its own tasks: that is not ours.
    await asyncio.wait({leaving}, timeout=LEAVE_SECONDS)
    if leaving.done() and not leaving.cancelled() and leaving.exception() is None:
        return
    leaving.cancel()
    log.warning("consumer group was not left", reason="Kafka did not answer in time")
    await consumer._client.close()  # noqa: SLF001 - stop did not get there


async def _stop(consumer: AIOKafkaConsumer, session: Session) -> None:
    await session.close()
    if consumer._coordinator is not None:  # noqa: SLF001
        # aiokafka lets a member with a name go without a word: its partitions would stay unread
        # until its session is over, and it may not come back.
        consumer._coordinator._group_instance_id = None  # noqa: SLF001
    await consumer.stop()


def new_consumer(options: BusOptions, group: Group) -> AIOKafkaConsumer:
    """A consumer of the group that never follows Kafka's own positions: PostgreSQL has ours."""
    limit_batches(options.max_inflated_bytes)
    return AIOKafkaConsumer(
        **client_arguments(options),
        group_id=options.group_id,
        # Without it the group would wait, and nobody read, until the session of a worker that was
        # killed and is back is over.
        group_instance_id=group.member,
        enable_auto_commit=False,
        # aiokafka's default would silently skip to the end where Kafka's log begins after us.
        auto_offset_reset="none",
        isolation_level="read_committed",
        # Over all topics at once: aiokafka's sticky one gives a member all of `tasks`. Nothing here
        # is kept from one assignment to the next, so there is nothing to stick to.
        partition_assignment_strategy=group.assignors,
        metadata_max_age_ms=METADATA_MS,
        fetch_max_wait_ms=FETCH_WAIT_MS,
        session_timeout_ms=int(options.session_timeout_seconds * 1000),
        heartbeat_interval_ms=int(options.session_timeout_seconds * 300),
        max_poll_records=options.batch_messages,
        fetch_max_bytes=2 * options.batch_bytes,
    )
