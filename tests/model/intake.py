"""T1 and what people do, on the tables in memory: ingest, retry."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from orchestrator.domain.event import URGENT
from orchestrator.domain.ids import Epoch, Seq, TaskId, TaskKey, WorkerId
from orchestrator.domain.step import Accepted, Retried, Step
from orchestrator.domain.task import TaskStatus
from orchestrator.store.ingest import Batch, Claimed, Ingested, NewEvent, NewTask, Origin
from tests.model.tables import RUNNABLE, InboxRow, Tables, TaskRow, Told

RETRYABLE = (TaskStatus.FAILED, TaskStatus.QUARANTINED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taker:
    """Who ingests, and how much he may take for himself."""

    worker: WorkerId
    room: int
    expected_for: timedelta
    shared_claims: int


class ModelIntake:
    """Synchronous: each method is one transaction."""

    def __init__(self, tables: Tables, *, now: Callable[[], datetime]) -> None:
        self.tables = tables
        self.now = now

    def ingest(self, batch: Batch, taker: Taker) -> Ingested:
        moved = {
            (a.topic, a.partition)
            for a in batch.advances
            if self.tables.positions.get((a.topic, a.partition)) == a.expected
        }
        for a in batch.advances:
            if (a.topic, a.partition) in moved:
                self.tables.positions[a.topic, a.partition] = a.next_offset
        for dead in batch.dead_letters:
            if _place(dead.origin) in moved:
                self.tables.outbox.append(Told(topic=dead.topic))
        messages = [m for m in batch.messages if _place(m.origin) in moved]
        return self._take_in(messages, moved=moved, taker=taker)

    def _take_in(
        self, messages: list[NewTask | NewEvent], *, moved: set[tuple[str, int]], taker: Taker
    ) -> Ingested:
        first: dict[TaskId, NewTask] = {}
        for message in messages:
            if isinstance(message, NewTask):
                first.setdefault(message.task_id, message)
        cancelled = {
            m.task_id for m in messages if isinstance(m, NewEvent) and m.event_type == "cancel"
        }
        events = Counter(m.task_id for m in messages if isinstance(m, NewEvent))
        claimed: list[Claimed] = []
        left_ready = 0
        touched = list(dict.fromkeys(m.task_id for m in messages))
        accepted: set[TaskId] = set()
        # In the order in which the statement writes them, which gives new rows their ids.
        for task_id in sorted(touched):
            has_room = touched.index(task_id) < taker.room
            row = self._row(task_id)
            self._change(row, first.get(task_id), events[task_id], taker, has_room=has_room)
            row.is_urgent |= task_id in cancelled
            if task_id in first and self._accept(row, first[task_id]):
                accepted.add(task_id)
            if row.status is TaskStatus.READY:
                left_ready += 1
            elif row.status is TaskStatus.RUNNING and row.owner == taker.worker:
                claimed.append(Claimed(key=row.id, epoch=row.epoch))
        self._keep(messages, first=first, accepted=accepted)
        urgent = {m.task_id for m in messages if isinstance(m, NewEvent) and m.event_type in URGENT}
        rows = (self.tables.tasks[self.tables.by_task_id[task_id]] for task_id in sorted(urgent))
        return Ingested(
            moved=frozenset(moved),
            claimed=tuple(claimed),
            woken=tuple(row.id for row in rows if row.status is TaskStatus.RUNNING),
            left_ready=left_ready,
        )

    def _row(self, task_id: TaskId) -> TaskRow:
        key = self.tables.by_task_id.get(task_id)
        if key is not None:
            return self.tables.tasks[key]
        row = TaskRow(
            id=TaskKey(self.tables.next_id()),
            task_id=task_id,
            status=TaskStatus.EXPECTED,
            run_at=datetime.min.replace(tzinfo=self.now().tzinfo),
            created_at=self.now(),
        )
        self.tables.tasks[row.id] = row
        self.tables.by_task_id[task_id] = row.id
        return row

    def _change(
        self, row: TaskRow, task: NewTask | None, events: int, taker: Taker, *, has_room: bool
    ) -> None:
        now = self.now()
        row.wake += events
        if row.status is TaskStatus.EXPECTED:
            self._fill(row, task, taker, has_room=has_room)
        elif row.status in RUNNABLE and events:
            if row.status is TaskStatus.WAITING:
                row.reason = None
            row.run_at = min(row.run_at, now)
            if has_room and row.claims < taker.shared_claims:
                reason = row.reason
                row.owned_by(taker.worker, now)
                row.reason = reason
            else:
                row.status = TaskStatus.READY

    def _fill(self, row: TaskRow, task: NewTask | None, taker: Taker, *, has_room: bool) -> None:
        now = self.now()
        if task is None:
            # A row that is new carries in `claims` that there was room; nothing reads it there.
            is_new = row.run_at < row.created_at
            row.claims = int(is_new and has_room)
            if is_new:
                row.run_at = now + taker.expected_for
            return
        row.message, row.context, row.context_seq, row.seq = task, task.context, 1, Seq(1)
        row.created_at = row.run_at = now
        row.claims = 0
        row.status = TaskStatus.READY
        if has_room:
            row.status, row.owner = TaskStatus.RUNNING, taker.worker
            row.epoch = Epoch(row.epoch + 1)
            row.claims = 1

    def _accept(self, row: TaskRow, task: NewTask) -> bool:
        body = Accepted(description=task.description, source=task.origin.source)
        step = Step(seq=Seq(1), body=body, change=task.context, at=self.now())
        return self.tables.add_step(row.id, row.epoch, step)

    def _keep(
        self,
        messages: list[NewTask | NewEvent],
        *,
        first: dict[TaskId, NewTask],
        accepted: set[TaskId],
    ) -> None:
        for message in messages:
            key = self.tables.by_task_id[message.task_id]
            inbox = self.tables.inbox.setdefault(key, [])
            if isinstance(message, NewEvent):
                if message.event_id and any(r.event_id == message.event_id for r in inbox):
                    continue
                inbox.append(_kept(self.tables, key, message))
            elif message is first[message.task_id] and message.task_id in accepted:
                inbox.append(
                    InboxRow(
                        id=self.tables.next_id(), task=key, event_type="task", event=None, seq=1
                    )
                )

    # What people do

    def retry(self, task_id: TaskId) -> bool:
        """Whether it had failed."""
        row = self.tables.tasks[self.tables.by_task_id[task_id]]
        if row.status not in RETRYABLE or row.message is None:
            return False
        row.epoch, row.seq = Epoch(row.epoch + 1), Seq(row.seq + 1)
        step = Step(seq=row.seq, body=Retried(), at=self.now())
        self.tables.add_step(row.id, row.epoch, step)
        row.status, row.claims, row.owner = TaskStatus.READY, 0, None
        row.run_at, row.reason = self.now(), None
        return True


def _place(origin: Origin) -> tuple[str, int]:
    return origin.topic, origin.partition


def _kept(tables: Tables, key: TaskKey, event: NewEvent) -> InboxRow:
    return InboxRow(id=tables.next_id(), task=key, event_type=event.event_type, event=event)
