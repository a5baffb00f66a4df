"""A real worker on a real database, with scripted planner and agents, fed without Kafka."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator.agents.agent import Caller
from orchestrator.agents.targets import Targets
from orchestrator.domain.agent import Agent
from orchestrator.domain.context import Context
from orchestrator.domain.errors import StoreUnavailable
from orchestrator.domain.ids import TaskId, WorkerId
from orchestrator.domain.json import JsonObject
from orchestrator.domain.retry import RetryPolicy
from orchestrator.domain.step import StepBody, load_body
from orchestrator.engine.options import EngineOptions
from orchestrator.engine.worker import Outside, Worker
from orchestrator.planners.planner import Planner
from orchestrator.store import positions
from orchestrator.store.control import Message, Selection, tell
from orchestrator.store.database import Database, Row
from orchestrator.store.ingest import (
    Advance,
    Batch,
    Ingested,
    NewEvent,
    NewTask,
    Origin,
    ingest,
)
from orchestrator.store.positions import Position
from orchestrator.store.postgres import PostgresStore
from tests.fakes.bus import until
from tests.fakes.scripted_caller import AGENTS

CLUSTER = "test-cluster"
NOBODY = WorkerId(0)


class Feed:
    """One partition of messages, written as intake writes them."""

    def __init__(self, database: Database, *, partition: int = 0) -> None:
        self.database = database
        self.partition = partition
        self.offset = 0

    async def task(
        self, task_id: str, *, required: Sequence[str] = (), to: Worker | None = None, **more: Any
    ) -> Ingested:
        """A new task, claimed at once by the worker `to`, or left to whoever looks first."""
        return await self.send([self.new_task(task_id, required=required, **more)], to=to)

    async def event(
        self,
        task_id: str,
        event_type: str = "data",
        *,
        to: Worker | None = None,
        **more: Any,
    ) -> Ingested:
        """An event; `more` are fields of `NewEvent`."""
        return await self.send([self.new_event(task_id, event_type, **more)], to=to)

    def new_task(self, task_id: str, *, required: Sequence[str] = (), **more: Any) -> NewTask:
        context = Context(required_fields=tuple(required)).to_json()
        fields: dict[str, Any] = {"description": f"the task {task_id}", "context": context}
        return NewTask(origin=self._origin(), task_id=TaskId(task_id), **(fields | more))

    def new_event(self, task_id: str, event_type: str = "data", **more: Any) -> NewEvent:
        fields: dict[str, Any] = {"payload": {}}
        return NewEvent(
            origin=self._origin(), task_id=TaskId(task_id), event_type=event_type, **(fields | more)
        )

    async def send(
        self, messages: Sequence[NewTask | NewEvent], *, to: Worker | None = None
    ) -> Ingested:
        """A batch; the position moves by one for each message."""
        if self.offset == 0:
            await positions.begin(self.database, CLUSTER, {("tasks", self.partition): Position(0)})
        done = await ingest(
            self.database,
            Batch(
                cluster_id=CLUSTER, advances=(self.advance(len(messages)),), messages=(*messages,)
            ),
            worker=to.id if to else NOBODY,
            room=to.room() if to else 0,
            expected_for=timedelta(hours=1),
            shared_claims=5,
        )
        self.offset += len(messages)
        if to is not None:
            to.ingested(done)
        return done

    def advance(self, messages: int = 1) -> Advance:
        return Advance(
            topic="tasks",
            partition=self.partition,
            expected=self.offset,
            next_offset=self.offset + messages,
        )

    def _origin(self) -> Origin:
        return Origin(
            topic="tasks", partition=self.partition, offset=self.offset, key=b"k", value=b"{}"
        )


@dataclass(slots=True, kw_only=True)
class RunningWorker:
    """A worker and the coroutine that runs it."""

    worker: Worker
    running: asyncio.Task[None]

    async def kill(self) -> None:
        """Ends it as a crash does: nothing is given back, nobody is told."""
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)

    async def stop(self, *, grace_seconds: float = 5.0) -> None:
        """Ends it as a signal does."""
        if not self.running.done():
            await self.worker.drain(timedelta(seconds=grace_seconds))
            await self.worker.close()
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)


def engine_options(**changes: Any) -> EngineOptions:
    """Quick: a lease of a second, a look ten times a second, retries after milliseconds."""
    quick = RetryPolicy(max_attempts=3, base_seconds=0.01, cap_seconds=0.02)
    options: dict[str, Any] = {
        "worker_name": "worker",
        "lease": timedelta(seconds=1),
        "poll": timedelta(seconds=0.1),
        "agent_retry": quick,
        "model_retry": quick,
    }
    return EngineOptions(**(options | changes))


async def start_worker(
    database: Database,
    *,
    planner: Planner,
    caller: Caller,
    agents: Sequence[Agent] = AGENTS,
    targets: Targets | None = None,
    left_ready: Callable[[], None] = lambda: None,
    **options: Any,
) -> RunningWorker:
    """To be ended with `kill` or `stop`; `options` are fields of `EngineOptions`."""

    async def known(_tenant: str) -> Sequence[Agent]:
        return agents

    worker = Worker(
        PostgresStore(database),
        engine_options(**options),
        Outside(
            planner=planner,
            caller=caller,
            agents=known,
            journaled=lambda: None,
            left_ready=left_ready,
            targets=targets,
        ),
    )
    await worker.open()
    return RunningWorker(worker=worker, running=asyncio.create_task(worker.run(), name="worker"))


@asynccontextmanager
async def running_worker(
    database: Database, *, planner: Planner, caller: Caller, **more: Any
) -> AsyncIterator[Worker]:
    """A worker that runs while the block does; what ended it before is raised at its end."""
    started = await start_worker(database, planner=planner, caller=caller, **more)
    try:
        yield started.worker
    finally:
        if started.running.done():
            await started.running
        await started.stop()


class Stalling(Database):
    """A database that a worker can't reach for a while, as when its process is frozen."""

    def __init__(self, database: Database, *, only: str | None = None) -> None:
        """`only` this statement waits while it is stalled, else all of them."""
        super().__init__(database._options)
        self._only = only
        self._reachable = asyncio.Event()
        self._reachable.set()
        self.waiting: set[str] = set()
        """Statements that were asked in vain."""

    def stall(self) -> None:
        self._reachable.clear()

    def go_on(self) -> None:
        self._reachable.set()

    async def fetch(self, sql: str, *args: Any) -> Sequence[Row]:
        if self._only in (None, sql):
            self.waiting.add(sql)
            await self._reachable.wait()
            self.waiting.discard(sql)
        return await super().fetch(sql, *args)


async def cancel(database: Database, task_id: str, *, reason: str = "") -> None:
    """As a person does it, though the notice is lost."""
    message = Message(event_type="cancel", payload={"reason": reason}, source="test")
    (told,) = await tell(database, message, Selection(task_ids=(TaskId(task_id),)))
    assert told.is_told


# What the tests ask PostgreSQL.


async def task_row(database: Database, task_id: str) -> Row:
    row = await database.fetch_one("SELECT * FROM tasks WHERE task_id = $1", task_id)
    assert row is not None, f"no task {task_id}"
    return row


async def reaches(database: Database, task_id: str, status: str, *, seconds: float = 10.0) -> Row:
    """The task's row once it has this status."""

    async def is_there() -> bool:
        return bool((await task_row(database, task_id))["status"] == status)

    try:
        await until(is_there, seconds=seconds, what=f"{task_id} {status}")
    except AssertionError as error:
        row = await task_row(database, task_id)
        kinds = [b.kind for b in await bodies(database, task_id)]
        raise AssertionError(f"{error}: {row['status']}, {row['reason']}, {kinds}") from None
    return await task_row(database, task_id)


async def all_reach(database: Database, status: str, *, tasks: int, seconds: float = 30.0) -> None:
    async def are_there() -> bool:
        try:
            row = await database.fetch_one("SELECT count(*) n FROM tasks WHERE status = $1", status)
        except StoreUnavailable:
            return False  # it may just have been killed
        return row is not None and row["n"] == tasks

    await until(are_there, seconds=seconds, what=f"{tasks} tasks {status}")


async def bodies(database: Database, task_id: str) -> list[StepBody]:
    """The task's journal; its numbers have no gap."""
    rows = await database.fetch(
        "SELECT s.* FROM steps s JOIN tasks t ON t.id = s.task WHERE t.task_id = $1 ORDER BY s.seq",
        task_id,
    )
    assert [r["seq"] for r in rows] == list(range(1, len(rows) + 1))
    return [load_body(r["kind"], r["body"]) for r in rows]


async def kinds(database: Database, task_id: str) -> list[str]:
    return [body.kind for body in await bodies(database, task_id)]


async def context_of(database: Database, task_id: str) -> JsonObject:
    row = await database.fetch_one(
        "SELECT context_at(task_id, seq) AS c FROM tasks WHERE task_id = $1", task_id
    )
    assert row is not None
    context: JsonObject = row["c"]
    return context


def soon() -> datetime:
    """A deadline that leaves time to make a call before it."""
    return datetime.now(UTC) + timedelta(seconds=2.5)
