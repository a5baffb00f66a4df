"""The engine's store in memory, statement by statement as PostgreSQL does it, one at a time.

It is the specification that both proofs share: the real statements are compared with it after each
rule of a state machine, and the simulated engine runs on it.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import orjson

from orchestrator.domain.context import Context
from orchestrator.domain.event import URGENT, InboxMessage
from orchestrator.domain.ids import Seq, TaskKey, WorkerId
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import Failed, Step
from orchestrator.domain.task import Task, TaskStatus
from orchestrator.store.ingest import Claimed
from orchestrator.store.journal import Entry, Rest, Written
from orchestrator.store.loading import Loaded
from tests.model.tables import BEGUN, INFINITY, InboxRow, Tables, TaskRow, Told, WorkerRow


class ModelStore:
    """Synchronous: each method is one transaction. `now` is the time of the next one."""

    def __init__(self, tables: Tables, *, now: Callable[[], datetime]) -> None:
        self.tables = tables
        self.now = now

    # Who runs which task

    def wake_due(self) -> timedelta | None:
        now = self.now()
        times: list[datetime] = []
        for row in self.tables.tasks.values():
            if row.status is not TaskStatus.WAITING or row.run_at == INFINITY:
                continue
            if row.run_at <= now:
                row.status = TaskStatus.READY
            else:
                times.append(row.run_at)
        return min(times) - now if times else None

    def claim(self, worker: WorkerId, *, limit: int, shared_claims: int) -> list[Claimed]:
        """Tenants take turns; whose is the first one, PostgreSQL draws by lot."""
        runnable = [row for row in self.tables.tasks.values() if self.may_claim(row, shared_claims)]
        return self.take(worker, [row.id for row in _in_turn(runnable)[:limit]])

    def claim_beside(self, worker: WorkerId, *, limit: int, shared_claims: int) -> list[Claimed]:
        return self.take(worker, self.beside(worker, shared_claims=shared_claims)[:limit])

    def beside(self, worker: WorkerId, *, shared_claims: int) -> list[TaskKey]:
        """Who was told to end or to pause, who is late, and one of each tenant without any here."""
        may = [r for r in self.tables.tasks.values() if self.may_claim(r, shared_claims)]
        here = {row.tenant for row in self.tables.running(worker)}
        pressing = [r.id for r in may if self.is_pressing(r)]
        first = {r.tenant: r.id for r in reversed(_in_turn(may)) if r.tenant not in here}
        return list(dict.fromkeys([*pressing, *first.values()]))

    def is_pressing(self, row: TaskRow) -> bool:
        deadline = row.message.deadline if row.message else None
        is_late = deadline is not None and deadline <= self.now()
        return row.is_urgent or is_late

    def claim_suspect(
        self, worker: WorkerId, *, shared_claims: int, max_claims: int
    ) -> list[Claimed]:
        """One that made no step in so many claims; each time among half as many, at last alone."""
        rows = self.tables.tasks.values()
        beside = [r for r in self.tables.running(worker) if r.claims > shared_claims]
        trials = min((max_claims - r.claims for r in beside), default=30)
        suspects = [
            r
            for r in rows
            if self.may_claim(r, max_claims)
            and r.claims >= shared_claims
            and len(beside) < 2 ** min(max_claims - 1 - r.claims, trials)
        ]
        suspects.sort(key=lambda row: (row.run_at, row.id))
        return self.take(worker, [row.id for row in suspects[:1]])

    def may_claim(self, row: TaskRow, max_claims: int) -> bool:
        is_due = row.status is TaskStatus.READY and row.run_at <= self.now()
        return is_due and row.claims < max_claims

    def take(self, worker: WorkerId, keys: Sequence[TaskKey]) -> list[Claimed]:
        """Claims just these."""
        rows = [self.tables.tasks[key] for key in keys]
        for row in rows:
            row.owned_by(worker, self.now())
        return [Claimed(key=row.id, epoch=row.epoch) for row in rows]

    def load(self, worker: WorkerId, keys: Sequence[TaskKey]) -> list[Loaded]:
        mine = (self.tables.tasks[key] for key in keys if key in self.tables.tasks)
        return [
            self._loaded(row)
            for row in mine
            if row.status is TaskStatus.RUNNING and row.owner == worker
        ]

    def unread(self, key: TaskKey) -> tuple[tuple[InboxMessage, ...], int]:
        messages = tuple(_message(row) for row in self.tables.unread(key))
        return messages, self.tables.tasks[key].wake

    def urgent(self, worker: WorkerId) -> list[TaskKey]:
        return [
            row.id
            for row in self.tables.running(worker)
            if any(m.event_type in URGENT for m in self.tables.unread(row.id))
        ]

    def owned(self, worker: WorkerId) -> list[Claimed]:
        return [Claimed(key=row.id, epoch=row.epoch) for row in self.tables.running(worker)]

    def release(
        self, worker: WorkerId, tasks: Sequence[Claimed], *, delay: timedelta | None
    ) -> int:
        given_back = 0
        for task in tasks:
            row = self.tables.tasks.get(task.key)
            if row is None or row.epoch != task.epoch or row.owner != worker:
                continue
            if row.status is not TaskStatus.RUNNING:
                continue
            row.given_back(self.now())
            if delay:
                row.delayed(self.now() + delay)
            row.claims = max(row.claims - 1, 0) if delay is None else row.claims
            given_back += 1
        return given_back

    def outlived(self, tasks: Sequence[Claimed]) -> int:
        counted = {
            task.key: row
            for task in tasks
            if (row := self.tables.tasks.get(task.key)) is not None
            and (row.epoch > task.epoch and row.claims and row.status in BEGUN)
        }
        for row in counted.values():
            row.claims -= 1
        return len(counted)

    # The journal

    def journal(self, entries: Sequence[Entry]) -> dict[TaskKey, Written]:
        found: dict[TaskKey, Written] = {}
        for entry in entries:
            row = self.tables.tasks.get(entry.key)
            if row is None or not self.may_write(row, entry):
                continue
            self._write(row, entry)
            found[row.id] = Written(status=row.status, wake=row.wake)
        return found

    def may_write(self, row: TaskRow, entry: Entry) -> bool:
        """The fence: the owner's epoch, and no hole before what is written."""
        return row.epoch == entry.epoch and row.seq >= entry.seq - len(entry.steps)

    def _write(self, row: TaskRow, entry: Entry) -> None:
        now = self.now()
        added = [
            self.tables.add_step(row.id, entry.epoch, replace(step, at=now)) for step in entry.steps
        ]
        if any(added) and entry.rest is not None and entry.rest.letter is not None:
            letter = entry.rest.letter
            self.tables.outbox.append(Told(topic=letter.topic, reason=letter.reason))
        for message, seq in entry.applied:
            for waiting in self.tables.inbox.get(row.id, ()):
                if waiting.id == message:
                    waiting.seq = seq
        if entry.seq > row.seq or entry.rest is not None:
            row.claims = 0
        row.seq = max(row.seq, entry.seq)
        if entry.context is not None:
            row.context, row.context_seq = orjson.loads(entry.context), entry.seq
        row.tokens = entry.tokens
        if entry.rest is not None:
            self.rest(row, entry.rest, seen=entry.seen)

    def rest(self, row: TaskRow, rest: Rest, *, seen: int) -> None:
        row.owner, row.reason, row.parked_for = None, rest.reason, rest.parked_for
        if rest.status is TaskStatus.WAITING and row.wake > seen:
            row.status, row.run_at = TaskStatus.READY, self.now()
        else:
            row.status, row.run_at = rest.status, rest.run_at or INFINITY

    # Who lives

    def register(self, name: str) -> WorkerId:
        now = self.now()
        for gone in [w.id for w in self.tables.workers.values() if w.name == name]:
            for row in list(self.tables.running(gone)):
                row.orphaned(now)
            del self.tables.workers[gone]
        worker = WorkerId(self.tables.next_id())
        self.tables.workers[worker] = WorkerRow(id=worker, name=name, heartbeat_at=now)
        return worker

    def heartbeat(self, worker: WorkerId) -> datetime | None:
        row = self.tables.workers.get(worker)
        if row is None:
            return None
        row.heartbeat_at = self.now()
        return row.heartbeat_at

    def has_namesake(self, name: str, worker: WorkerId) -> bool:
        return any(w.name == name and w.id != worker for w in self.tables.workers.values())

    def leave(self, worker: WorkerId) -> None:
        self.tables.workers.pop(worker, None)

    # What any worker does for all

    def reap(self, *, lease: timedelta, until: datetime) -> int:
        now = self.now()
        if now >= until:
            return 0
        alive = {w.id for w in self.tables.workers.values() if w.heartbeat_at > now - lease}
        stranded = [
            row
            for row in self.tables.tasks.values()
            if row.status is TaskStatus.RUNNING and row.owner not in alive
        ]
        for row in stranded:
            row.orphaned(now)
        return len(stranded)

    def forget_dead(self, *, lease: timedelta, until: datetime) -> list[str]:
        if self.now() >= until:
            return []
        oldest = self.now() - lease
        dead = [w for w in self.tables.workers.values() if w.heartbeat_at < oldest]
        for worker in dead:
            del self.tables.workers[worker.id]
        return [worker.name for worker in dead]

    def quarantine(self, *, max_claims: int, dead_letters: str) -> int:
        now = self.now()
        looping = [
            row
            for row in self.tables.tasks.values()
            if row.is_runnable(now) and row.claims > 0 and row.claims >= max_claims
        ]
        for row in looping:
            row.seq = Seq(row.seq + 1)
            body = Failed(code="crash_loop", reason=f"claimed {max_claims} times without a step")
            self.tables.add_step(row.id, row.epoch, Step(seq=row.seq, body=body, at=self.now()))
            self.tables.outbox.append(Told(topic=dead_letters, reason="crash_loop"))
            row.status, row.reason, row.run_at = TaskStatus.QUARANTINED, "crash loop", INFINITY
        return len(looping)

    def expire_expected(self, *, dead_letters: str) -> int:
        now = self.now()
        late = [
            row
            for row in self.tables.tasks.values()
            if row.status is TaskStatus.EXPECTED and row.run_at <= now
        ]
        for row in late:
            events = self.tables.inbox.pop(row.id, [])
            self.tables.outbox += [Told(topic=dead_letters, reason="unknown_task")] * len(events)
            del self.tables.tasks[row.id], self.tables.by_task_id[row.task_id]
        return len(late)

    def count_runnable(self) -> int:
        now = self.now()
        return sum(1 for row in self.tables.tasks.values() if row.is_runnable(now))

    def backlog(self) -> tuple[int, float]:
        return len(self.tables.outbox), 0.0

    # Who may be called

    def wake_parked(self, names: Sequence[str], *, limit: int) -> int:
        now, wanted = self.now(), set(names)
        parked = [
            row
            for row in self.tables.tasks.values()
            if row.status is TaskStatus.WAITING and row.run_at > now and wanted & {*row.parked_for}
        ]
        for row in parked[:limit]:
            row.run_at = now
        return len(parked[:limit])

    # Reading

    def _loaded(self, row: TaskRow) -> Loaded:
        steps = tuple(r.step for r in self.tables.journal(row.id))
        context = Context.from_json(row.context)
        for step in steps:
            if step.seq > row.context_seq:
                context = context.apply(step.change)
        snapshot = Snapshot(task=_task(row), epoch=row.epoch, context=context, steps=steps)
        inbox = tuple(_message(r) for r in self.tables.unread(row.id))
        return Loaded(snapshot=snapshot, inbox=inbox, wake=row.wake, claims=row.claims)


def _in_turn(runnable: list[TaskRow]) -> list[TaskRow]:
    """By priority, tenants in turn, then by due time."""
    turns: dict[tuple[int, str], int] = {}
    ranked: list[tuple[int, int, datetime, int, TaskRow]] = []
    for row in sorted(runnable, key=lambda r: (_priority(r), r.run_at, r.id)):
        turn = turns[_priority(row), row.tenant] = turns.get((_priority(row), row.tenant), 0) + 1
        ranked.append((_priority(row), turn, row.run_at, row.id, row))
    return [row for *_, row in sorted(ranked, key=lambda r: r[:4])]


def _priority(row: TaskRow) -> int:
    return row.message.priority if row.message else 1


def _task(row: TaskRow) -> Task:
    asked = row.message
    assert asked is not None, f"task {row.task_id} runs and nobody asked for it"
    return Task(
        key=row.id,
        task_id=row.task_id,
        kind=asked.kind,
        tenant=asked.tenant,
        description=asked.description,
        deadline=asked.deadline,
        budget=asked.budget,
        metadata=asked.metadata,
        created_at=row.created_at,
        traceparent=asked.traceparent,
    )


def _message(row: InboxRow) -> InboxMessage:
    event = row.event
    if event is None:
        return InboxMessage(id=row.id, event_type=row.event_type)
    return InboxMessage(
        id=row.id,
        event_type=row.event_type,
        payload=event.payload,
        step=event.step,
        call=event.call,
        source=event.origin.source,
    )
