"""A service under load for faults to be injected into: servers, stubs, workers, and what is seen.

The servers outlive a run; the database, the topics, the stubs and the workers are a run's own.
"""

import asyncio
import random
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import asyncpg

from bench.children import child
from chaos.fleet import Fleet, ForgeLine, Worker, root_environment
from chaos.load import Load
from orchestrator.bus.options import BusOptions, Topics
from orchestrator.bus.topics import create_topics

AGENTS_FOLDER = Path(__file__).resolve().parent / "agents"
PARTITIONS = 6
LEASE_SECONDS = 2.0
"""Of the workers of most classes: a take-over takes a quarter of what it takes by default."""
SESSION_SECONDS = 2.0
"""Of their consumer group, which each dead member holds up for so long."""

PERSON = """
SELECT t.task_id || '/' || (s.body->>'step') || '/' || (s.body->>'call') AS key
FROM tasks t JOIN steps s ON s.task = t.id
WHERE t.status = 'waiting' AND t.reason LIKE 'a person:%' AND s.kind = 'result'
  AND s.body->>'status' = 'accepted'
"""


class Server(Protocol):
    """A fault that breaks it need not mend it: the run does, at its end."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def kill(self) -> None: ...

    def freeze(self) -> None: ...

    def thaw(self) -> None: ...


class KafkaServer(Server, Protocol):
    @property
    def bootstrap_servers(self) -> str: ...


class PostgresServer(Server, Protocol):
    def dsn(self, database: str) -> str: ...

    async def create_database(self, name: str, *, template: str | None = None) -> str: ...

    async def drop_database(self, name: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    kafka: KafkaServer
    postgres: PostgresServer
    template: str
    """The name of a migrated database, to copy."""
    forge: ForgeLine
    postgres_version: str = ""
    kafka_detour: tuple[int, int] | None = None
    """The port where a proxy before Kafka may listen, and the one to which it has to go on."""

    async def mend(self) -> None:
        """Both run and answer."""
        for server in (self.kafka, self.postgres):
            server.thaw()
            await server.start()


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much load, on how many workers."""

    workers: int = 3
    per_second: float = 20.0
    min_tasks: int = 0
    """The load goes on until so many were published, also when all faults are over."""
    seed: int = 1
    is_short: bool = False
    """A run of a few seconds: what takes long by its nature is cut down."""


class NothingToBreak(Exception):
    """A fault found nothing that it could be injected into: it is tried again, and not counted."""


@dataclass(slots=True, kw_only=True)
class Arena:
    """What a fault may touch."""

    servers: Servers
    fleet: Fleet
    load: Load
    dice: random.Random
    folder: Path
    topics: Topics
    database_url: str
    size: Size
    measured: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """By what it is and its unit, as in `take-over, s`; bars are held against these."""
    findings: list[str] = field(default_factory=list)
    """What a fault itself saw to be wrong."""
    say: Callable[[str], None] = print
    """Where it is, for who waits."""
    _locks: dict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    _connection: Any = None

    @property
    def kafka(self) -> KafkaServer:
        return self.servers.kafka

    @property
    def postgres(self) -> PostgresServer:
        return self.servers.postgres

    def lock(self, touches: str | None) -> AbstractAsyncContextManager[None]:
        """One fault at a time breaks each of the servers; workers are broken side by side."""
        return nullcontext() if touches is None else self._locks[touches]

    async def rows(self, sql: str, *arguments: Any) -> Sequence[Any]:
        """What PostgreSQL has. Raises OSError, TimeoutError or asyncpg's errors when it is away."""
        # One connection for the load's person, all faults and the final look: one at a time.
        async with self._asking:
            if self._connection is None or self._connection.is_closed():
                self._connection = await asyncpg.connect(
                    self.database_url, timeout=5, server_settings={"application_name": "chaos"}
                )
            try:
                found: Sequence[Any] = await self._connection.fetch(sql, *arguments, timeout=20)
            except BaseException:
                self.forget_connection()
                raise
        return found

    async def rows_soon(self, sql: str, *arguments: Any, seconds: float = 30) -> Sequence[Any]:
        """The same, as soon as PostgreSQL answers."""
        async with asyncio.timeout(seconds):
            while True:
                try:
                    return await self.rows(sql, *arguments)
                except (
                    OSError,
                    TimeoutError,
                    asyncpg.PostgresError,
                    asyncpg.InterfaceError,
                    asyncpg.InternalClientError,
                ):
                    await asyncio.sleep(0.05)

    def forget_connection(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def waiting_for_a_person(self) -> Sequence[str]:
        rows = await self.rows_soon(PERSON, seconds=600)
        return [row["key"] for row in rows]

    def worker_to_break(self) -> Worker:
        """One of those that run, while another one does too.

        Raises:
            NothingToBreak: there is none at the moment.
        """
        healthy = self.fleet.healthy()
        if len(healthy) < 2:
            raise NothingToBreak
        return self.dice.choice(healthy)


Prepare = Callable[[Arena], AbstractAsyncContextManager[Mapping[str, str]]]


@asynccontextmanager
async def open_arena(
    servers: Servers, folder: Path, *, size: Size, environ: Mapping[str, str], prepare: Prepare
) -> AsyncIterator[Arena]:
    """Everything runs but the load. `environ` and what `prepare` gives go to each worker."""
    name = f"chaos_{uuid.uuid4().hex[:12]}"
    topics = _topics(name)
    async with AsyncExitStack() as stack:
        await servers.mend()
        stack.push_async_callback(servers.postgres.drop_database, name)
        stack.push_async_callback(servers.mend)
        url = await servers.postgres.create_database(name, template=servers.template)
        bus = BusOptions(bootstrap_servers=servers.kafka.bootstrap_servers, topics=topics)
        await create_topics(bus, topics.all)
        stubs = [
            await stack.enter_async_context(
                child(f"chaos.stubs.{stub}", str(folder / f"{stub}.db"))
            )
            for stub in ("llm", "agents")
        ]
        llm, agents = [f"http://127.0.0.1:{(await stub.hear())['port']}" for stub in stubs]
        told = _environment(servers, url=url, topics=topics, group=name, llm=llm, agents=agents)
        fleet = Fleet(servers.forge, environ={**told, **environ}, folder=folder)
        stack.push_async_callback(fleet.close)
        dice = random.Random(size.seed)
        load = Load(servers.kafka.bootstrap_servers, topics, per_second=size.per_second, dice=dice)
        await load.open()
        stack.push_async_callback(load.close)
        arena = Arena(
            servers=servers,
            fleet=fleet,
            load=load,
            dice=dice,
            folder=folder,
            topics=topics,
            database_url=url,
            size=size,
        )
        stack.callback(arena.forget_connection)
        fleet.environ.update(await stack.enter_async_context(prepare(arena)))
        for number in range(size.workers):
            await fleet.launch(f"worker-{number}")
        await asyncio.gather(*(fleet.joined(worker) for worker in fleet.running()))
        yield arena


def _topics(prefix: str) -> Topics:
    tasks, events, updates, letters = (
        f"{prefix}-{name}" for name in ("tasks", "events", "task-updates", "dead-letters")
    )
    return Topics(tasks=tasks, events=events, task_updates=updates, dead_letters=letters)


def _environment(  # sizes: a worker's environment, told once
    servers: Servers, *, url: str, topics: Topics, group: str, llm: str, agents: str
) -> dict[str, str]:
    return {
        **root_environment(),
        "DATABASE_URL": url,
        "KAFKA_BOOTSTRAP_SERVERS": servers.kafka.bootstrap_servers,
        "KAFKA_GROUP_ID": group,
        "KAFKA_SESSION_TIMEOUT_SECONDS": str(SESSION_SECONDS),
        "OPENAI_BASE_URL": f"{llm}/v1",
        "OPENAI_API_KEY": "sk-of-a-test",
        "LLM_MODEL": "openai:fake",
        "CHAOS_AGENTS_URL": agents,
        "ORCHESTRATOR_DECLARATION_VARIABLES": "CHAOS_AGENTS_URL",
        "PORT": "0",
        "ORCHESTRATOR_HEALTH_HOST": "127.0.0.1",
        "ORCHESTRATOR_LOG_FORMAT": "json",
        "ORCHESTRATOR_AGENTS_DIR": str(AGENTS_FOLDER),
        "ORCHESTRATOR_LEASE_SECONDS": str(LEASE_SECONDS),
        "ORCHESTRATOR_PARTITIONS": str(PARTITIONS),
        "ORCHESTRATOR_TOPIC_TASKS": topics.tasks,
        "ORCHESTRATOR_TOPIC_EVENTS": topics.events,
        "ORCHESTRATOR_TOPIC_UPDATES": topics.task_updates,
        "ORCHESTRATOR_TOPIC_DEAD_LETTERS": topics.dead_letters,
    }
