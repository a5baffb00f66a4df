"""What Kafka would bring, without Kafka: messages that go through T1 as one batch."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from orchestrator.domain.context import Context
from orchestrator.domain.ids import TaskId, TaskKey, WorkerId
from orchestrator.store import positions, workers
from orchestrator.store.database import Database, Row
from orchestrator.store.ingest import (
    Advance,
    Batch,
    DeadLetter,
    Ingested,
    NewEvent,
    NewTask,
    Origin,
    ingest,
)

CLUSTER = "cluster"
NOWHERE = Origin(topic="tasks", partition=0, offset=0)
Message = NewTask | NewEvent


def task(
    task_id: str = "order", *, required: Sequence[str] = (), at: Origin = NOWHERE, **fields: Any
) -> NewTask:
    return NewTask(
        origin=at,
        task_id=TaskId(task_id),
        description=f"the task {task_id}",
        context=Context(required_fields=tuple(required)).to_json(),
        **fields,
    )


def event(
    task_id: str = "order", event_type: str = "data", *, at: Origin = NOWHERE, **fields: Any
) -> NewEvent:
    fields.setdefault("payload", {})
    return NewEvent(origin=at, task_id=TaskId(task_id), event_type=event_type, **fields)


class Intake:
    """One consumer of two partitions of `tasks`, of which 0 is the usual one."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.next_offset: dict[int, int] = defaultdict(int)
        self.worker = WorkerId(0)

    async def begin(self) -> "Intake":
        self.worker = await workers.register(self.database, "intake")
        await positions.begin(self.database, CLUSTER, {("tasks", 0): 0, ("tasks", 1): 0})
        return self

    async def send(
        self,
        *messages: Message,
        room: int = 0,
        worker: WorkerId | None = None,
        dead: Sequence[DeadLetter] = (),
        expected_for: timedelta = timedelta(hours=1),
    ) -> Ingested:
        """The messages in one batch, each at its partition's next offset."""
        placed = [replace(m, origin=self._place(m.origin)) for m in messages]
        used = sorted({m.origin.partition for m in placed} | {d.origin.partition for d in dead})
        batch = Batch(
            cluster_id=CLUSTER,
            advances=tuple(self._advance(partition) for partition in used),
            messages=tuple(placed),
            dead_letters=tuple(dead),
        )
        done = await ingest(
            self.database,
            batch,
            worker=self.worker if worker is None else worker,
            room=room,
            expected_for=expected_for,
            max_claims=5,
        )
        self._moved = {p: self.next_offset[p] for p in self.next_offset}
        return done

    def _place(self, origin: Origin) -> Origin:
        offset = self.next_offset[origin.partition]
        self.next_offset[origin.partition] += 1
        return replace(origin, offset=offset)

    def _advance(self, partition: int) -> Advance:
        begun = getattr(self, "_moved", {}).get(partition, 0)
        return Advance(
            topic="tasks",
            partition=partition,
            expected=begun,
            next_offset=self.next_offset[partition],
        )

    async def row(self, task_id: str = "order") -> Row:
        row = await self.database.fetch_one("SELECT * FROM tasks WHERE task_id = $1", task_id)
        assert row is not None, f"no task {task_id}"
        return row

    async def key(self, task_id: str = "order") -> TaskKey:
        return TaskKey((await self.row(task_id))["id"])

    async def columns(self, sql: str, *args: object) -> list[tuple[Any, ...]]:
        return [tuple(r) for r in await self.database.fetch(sql, *args)]
