"""The composition root: options in, a running worker out. Only this module names implementations.

Parts are opened one after the other and closed in reverse, also when a later one fails to open.
What runs, runs in one task group: a part that dies takes the process down, with its reason.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from orchestrator.agents.callers.http_json import HttpCaller
from orchestrator.agents.catalogue import CachedCatalogue
from orchestrator.agents.http import agent_http_client, model_http_client
from orchestrator.agents.registry import add_folder, load_agents
from orchestrator.agents.router import Callers
from orchestrator.agents.targets import Targets
from orchestrator.agents.variables import DeclarationVariables
from orchestrator.bus.consumer import Consumer
from orchestrator.bus.ingest import Engine as IntakeEngine
from orchestrator.bus.options import BusOptions
from orchestrator.bus.relay import Identity, Relay
from orchestrator.bus.topics import ensure_topics
from orchestrator.domain.agent import Limits
from orchestrator.domain.decision import Turn
from orchestrator.domain.errors import InvalidSettings, OrchestratorError, StoreUnavailable
from orchestrator.engine.clock import Clock
from orchestrator.engine.housekeeping import Housekeeping
from orchestrator.engine.options import EngineOptions
from orchestrator.engine.worker import Outside, Worker
from orchestrator.planners.agentic.options import AgenticOptions
from orchestrator.planners.agentic.planner import AgenticPlanner
from orchestrator.planners.agentic.trial import try_model
from orchestrator.planners.chat.model import build_model
from orchestrator.planners.chat.options import ModelOptions
from orchestrator.planners.gated import GatedPlanner
from orchestrator.planners.planner import Planner, PromptShown
from orchestrator.store.database import Database, DatabaseOptions, with_reserve
from orchestrator.store.ingest import Ingested
from orchestrator.store.notices import Notice, Notices
from orchestrator.store.pooler import check_sessions
from orchestrator.store.postgres import PostgresStore
from orchestrator.store.revision import check_revision
from orchestrator.telemetry.logs import get_logger

T = TypeVar("T")

WAIT_CAP_SECONDS = 10.0

USELESS_SECONDS = 60.0
"""New sessions that do not help for so long: a new process may."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Everything a worker process is built from."""

    database: DatabaseOptions
    bus: BusOptions
    engine: EngineOptions
    model: ModelOptions
    agentic: AgenticOptions = field(default_factory=AgenticOptions)
    migrates: bool = False
    """Whether a worker brings the schema up to date when it starts."""
    agents_dir: Path | None = None
    declarations: DeclarationVariables = field(default_factory=DeclarationVariables)
    """What agents' declarations may name: addresses and signing secrets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What a test puts in the place of a real part."""

    planner: Planner | None = None
    on_turn: Callable[[PromptShown], None] | None = None


class App:
    """A worker process's parts, wired. Made by `open_app`."""

    def __init__(
        self,
        options: Options,
        *,
        database: Database,
        worker: Worker,
        consumer: Consumer,
        relay: Relay,
        notices: Notices,
    ) -> None:
        self._options = options
        self._database = database
        self.worker = worker
        self.consumer = consumer
        self._relay = relay
        self._notices = notices
        self._housekeeping = Housekeeping(database, options.engine, worker=lambda: worker.id)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Asks `run` to end gently."""
        self._stopping.set()

    async def run(self) -> None:
        """Works until `stop`, then ends intake, lets calls finish, and gives the rest back."""
        async with asyncio.TaskGroup() as group:
            relay = group.create_task(self._relay.run(), name="relay")
            parts = [
                group.create_task(self.worker.run(), name="worker"),
                group.create_task(self._housekeeping.run(), name="housekeeping"),
                group.create_task(self._notices.send(), name="notices out"),
                group.create_task(self._notices.hear(), name="notices in"),
            ]
            intake = group.create_task(self.consumer.run(), name="intake")
            await self._stopping.wait()
            log.info("stopping: intake ends, calls may finish", seconds=self._grace.total_seconds())
            self.consumer.stop()
            await intake
            await self.worker.drain(self._grace)
            await self._notices.flush()
            self._relay.stop()
            await relay
            for part in parts:
                part.cancel()
        log.info("stopped")

    async def database_problem(self) -> str | None:
        """Why PostgreSQL can't be used right now; None when it can."""
        try:
            await self._database.fetch("SELECT 1")
        except StoreUnavailable as error:
            return str(error)
        return None if self.worker.lease.is_held() else "no heartbeat for too long"

    def session_problem(self) -> str | None:
        """Why this process is of no use although PostgreSQL answers it; None where it is of use."""
        return session_problem(self._database)

    def intake_problem(self) -> str | None:
        """Why no messages are read right now; None when they are."""
        state = self.consumer.state
        if state.problems:
            return "; ".join(state.problems)
        return None if state.is_joined else "has not joined the consumer group yet"

    def publishing_problem(self) -> str | None:
        """Which topic takes no messages right now, and why; None where all do."""
        return "; ".join(self._relay.problems) or None

    @property
    def _grace(self) -> timedelta:
        return self._options.engine.grace


def session_problem(database: Database) -> str | None:
    """Why a new process may do better with PostgreSQL; None where nothing says so.

    The heartbeat's sessions are looked at: it writes, and nothing else goes over them.
    """
    seconds = database.reserve.useless_seconds
    if seconds < USELESS_SECONDS:
        return None
    return f"PostgreSQL has refused every new session of this worker for {seconds:.0f} s"


async def _migrate(url: str) -> None:
    from orchestrator.store.migrations import bring_up_to_date  # noqa: PLC0415 - a sixth of a start

    await bring_up_to_date(url)


@asynccontextmanager
async def open_app(options: Options, overrides: Overrides = Overrides()) -> AsyncIterator[App]:
    """A worker with its connections open; they are closed at the end, in reverse.

    Waits for as long as PostgreSQL or Kafka are not there, and says so.

    Raises:
        OperatorError: settings, schema or an agent's declaration are wrong.
    """
    async with AsyncExitStack() as stack:
        database = with_reserve(options.database)
        await patiently("PostgreSQL", lambda: check_sessions(options.database))
        await patiently("PostgreSQL", database.open)
        stack.push_async_callback(database.close)
        if options.migrates:
            await patiently("PostgreSQL", lambda: _migrate(options.database.url))
        # In a rolling upgrade a new worker may come before the migration: it waits for that too.
        await patiently("PostgreSQL", lambda: check_revision(options.database.url))
        created = await patiently("Kafka", lambda: ensure_topics(options.bus))
        if created:
            log.info("topics created", topics=list(created))
        folder = options.agents_dir
        if folder is not None:
            await patiently(
                "PostgreSQL", lambda: add_folder(database, folder, options.declarations)
            )

        catalogue = CachedCatalogue(lambda: load_agents(database))
        wiring = _Wiring(catalogue)
        planner = overrides.planner or await _open_planner(
            stack, options, overrides, catalogue=catalogue, wiring=wiring
        )
        yield await _wire(
            stack, database, options, planner=planner, catalogue=catalogue, wiring=wiring
        )


async def _open_planner(
    stack: AsyncExitStack,
    options: Options,
    overrides: Overrides,
    *,
    catalogue: CachedCatalogue,
    wiring: "_Wiring",
) -> Planner:
    model = options.model
    client = model_http_client(timeout_seconds=model.timeout_seconds, may_send=wiring.may_send)
    stack.push_async_callback(client.aclose)
    planner = AgenticPlanner(
        build_model(model, client=client),
        catalogue=catalogue,
        model_options=model,
        options=options.agentic,
        on_turn=overrides.on_turn,
    )
    limits = Limits(concurrency=model.concurrency, rate_per_second=model.rate_per_second)
    return GatedPlanner(planner, wiring.targets.model(model.model, limits))


async def _wire(
    stack: AsyncExitStack,
    database: Database,
    options: Options,
    *,
    planner: Planner,
    catalogue: CachedCatalogue,
    wiring: "_Wiring",
) -> App:
    client = agent_http_client(may_send=wiring.may_send)
    stack.push_async_callback(client.aclose)
    notices = Notices(database, heard=wiring.heard)
    http = HttpCaller(client, environ=options.declarations.environ, may_send=wiring.may_send)
    worker = Worker(
        PostgresStore(database),
        options.engine,
        Outside(
            planner=planner,
            caller=Callers({"http": http}),
            agents=catalogue.agents,
            journaled=wiring.journaled,
            left_ready=wiring.left_ready,
            clock=wiring.clock,
            targets=wiring.targets,
        ),
    )
    relay = Relay(
        database,
        options.bus,
        identity=Identity(
            worker=lambda: worker.id,
            is_alive=worker.lease.is_held,
            lease=options.engine.lease,
        ),
    )
    wiring.connect(worker, relay, notices)
    await patiently("PostgreSQL", worker.open)
    stack.push_async_callback(worker.close)
    return App(
        options,
        database=database,
        worker=worker,
        consumer=_intake(database, options, worker=worker, wiring=wiring),
        relay=relay,
        notices=notices,
    )


def _intake(database: Database, options: Options, *, worker: Worker, wiring: "_Wiring") -> Consumer:
    engine = options.engine
    return Consumer(
        database,
        replace(options.bus, shared_claims=engine.shared_claims, member=engine.worker_name),
        engine=IntakeEngine(
            worker=lambda: worker.id,
            room=worker.room,
            ingested=wiring.ingested,
            reject_more=lambda: worker.is_overloaded,
        ),
    )


class _Wiring:
    """What parts share that may not see each other: wake-ups, the time, who may be called."""

    def __init__(self, catalogue: CachedCatalogue) -> None:
        self.clock = Clock()
        self.targets = Targets(seconds=self.clock.seconds)
        self._catalogue = catalogue
        self._worker: Worker | None = None
        self._relay: Relay | None = None
        self._notices: Notices | None = None

    def connect(self, worker: Worker, relay: Relay, notices: Notices) -> None:
        self._worker, self._relay, self._notices = worker, relay, notices

    def may_send(self) -> bool:
        return self._worker is not None and self._worker.lease.is_held()

    def journaled(self) -> None:
        """Something was written for Kafka: whoever leads the relay sends it."""
        assert self._relay is not None
        assert self._notices is not None
        if self._relay.is_leader:
            self._relay.wake()
        else:
            self._notices.flag(Notice.OUTBOX)

    def ingested(self, ingested: Ingested) -> None:
        assert self._worker is not None
        assert self._notices is not None
        self._worker.ingested(ingested)
        self.journaled()
        if ingested.woken:
            self._notices.flag(Notice.CONTROL)
        if ingested.left_ready:
            self.left_ready()

    def left_ready(self) -> None:
        """Tasks are ready that any worker may take."""
        assert self._notices is not None
        self._notices.flag(Notice.RUNNABLE)

    def heard(self, notice: Notice) -> None:
        assert self._worker is not None
        assert self._relay is not None
        match notice:
            case Notice.RUNNABLE:
                self._worker.wake()
            case Notice.OUTBOX:
                self._relay.wake()
            case Notice.CONTROL:
                self._worker.attend()
            case Notice.AGENTS:
                self._catalogue.invalidate()
                self._worker.agents_changed()


async def patiently(what: str, action: Callable[[], Awaitable[T]]) -> T:
    """Does it as soon as it can be done: errors that pass are waited out, and told.

    Raises:
        OrchestratorError: one that waiting does not mend.
    """

    def tell(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        wait = round(state.next_action.sleep if state.next_action else 0, 1)
        log.warning("waiting", waits_for=what, error=str(error), next_try_seconds=wait)

    async for attempt in AsyncRetrying(
        retry=retry_if_exception(_passes),
        wait=wait_random_exponential(multiplier=0.5, max=WAIT_CAP_SECONDS),
        before_sleep=tell,
        reraise=True,
    ):
        with attempt:
            return await action()
    raise AssertionError("it retries until it returns or raises")


def _passes(error: BaseException) -> bool:
    return isinstance(error, OrchestratorError) and error.retryable


async def model_problem(options: ModelOptions) -> str | None:
    """Why a worker could not build its model; nobody is asked, and no token is spent."""
    async with model_http_client(timeout_seconds=options.timeout_seconds) as client:
        try:
            build_model(options, client=client)
        except InvalidSettings as error:
            return str(error)
    return None


async def ask_model(options: ModelOptions) -> Turn:
    """Two turns of a small task, as a worker asks for them: tokens are spent.

    Raises:
        ModelFailed: one was not answered.
    """
    async with model_http_client(timeout_seconds=options.timeout_seconds) as client:
        return await try_model(build_model(options, client=client), options=options)
