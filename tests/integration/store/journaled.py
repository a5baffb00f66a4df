"""Tasks as ingest and the journal write them, for tests that read them back."""

from collections.abc import Sequence
from datetime import timedelta

import orjson

from orchestrator.domain.context import Context
from orchestrator.domain.ids import Seq, TaskId, TaskKey, WorkerId
from orchestrator.domain.json import JsonObject
from orchestrator.domain.step import Step, StepBody
from orchestrator.store import journal, positions, workers
from orchestrator.store.database import Database
from orchestrator.store.ingest import Advance, Batch, Claimed, NewEvent, NewTask, Origin, ingest
from orchestrator.store.positions import Position

TOPIC = ("tasks", 0)


class Journal:
    """One worker that ingests tasks and writes their steps."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._offset = 0
        self._worker: WorkerId | None = None

    async def _send(self, message: NewTask | NewEvent, *, room: int) -> tuple[Claimed, ...]:
        if self._worker is None:
            self._worker = await workers.register(self.database, "test worker")
            await positions.begin(self.database, "cluster", {TOPIC: Position(0)})
        advance = Advance(
            topic=TOPIC[0],
            partition=TOPIC[1],
            expected=self._offset,
            next_offset=self._offset + 1,
        )
        self._offset += 1
        batch = Batch(cluster_id="cluster", advances=(advance,), messages=(message,))
        done = await ingest(
            self.database,
            batch,
            worker=self._worker,
            room=room,
            expected_for=timedelta(hours=1),
            shared_claims=5,
        )
        return done.claimed

    def _origin(self) -> Origin:
        return Origin(topic=TOPIC[0], partition=TOPIC[1], offset=self._offset)

    async def accept(
        self, task_id: str, *, required: Sequence[str] = (), is_claimed: bool = True
    ) -> Claimed | None:
        """A new task, which the worker runs, or (not claimed) which nobody runs yet."""
        task = NewTask(
            origin=self._origin(),
            task_id=TaskId(task_id),
            description=f"the task {task_id}",
            context=Context(required_fields=tuple(required)).to_json(),
        )
        claimed = await self._send(task, room=1 if is_claimed else 0)
        return claimed[0] if claimed else None

    async def expect(self, task_id: str) -> None:
        """An event whose task has not come."""
        event = NewEvent(
            origin=self._origin(), task_id=TaskId(task_id), event_type="data", payload={}
        )
        await self._send(event, room=0)

    async def write(
        self,
        task: Claimed,
        *steps: tuple[StepBody, JsonObject | None],
        rest: journal.Rest | None = None,
    ) -> None:
        """Journals the steps from number 2 on, and the task's rest."""
        made = tuple(
            Step(seq=Seq(number), body=body, change=change)
            for number, (body, change) in enumerate(steps, start=2)
        )
        context = await self._context(task.key, made)
        entry = journal.Entry(
            key=task.key,
            epoch=task.epoch,
            seq=Seq(len(made) + 1),
            steps=made,
            context=orjson.dumps(context.to_json()).decode(),
            tokens=12,
            rest=rest,
        )
        assert task.key in await journal.journal(self.database, [entry])

    async def _context(self, key: TaskKey, steps: Sequence[Step]) -> Context:
        row = await self.database.fetch_one("SELECT context FROM tasks WHERE id = $1", key)
        assert row is not None
        context = Context.from_json(row["context"])
        for step in steps:
            context = context.apply(step.change)
        return context

    async def column(self, task_id: str, name: str) -> object:
        row = await self.database.fetch_one("SELECT * FROM tasks WHERE task_id = $1", task_id)
        assert row is not None
        return row[name]
