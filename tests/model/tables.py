"""PostgreSQL's tables as dicts: what the statements of `orchestrator.store` leave behind."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from orchestrator.domain.ids import Epoch, Seq, TaskId, TaskKey, WorkerId
from orchestrator.domain.json import JsonObject
from orchestrator.domain.step import Step, StepBody
from orchestrator.domain.task import TaskStatus
from orchestrator.store.ingest import NewEvent, NewTask

INFINITY = datetime.max.replace(tzinfo=UTC)
RUNNABLE = (TaskStatus.READY, TaskStatus.WAITING)
BEGUN = (*RUNNABLE, TaskStatus.RUNNING)


@dataclass(slots=True, kw_only=True)
class TaskRow:
    id: TaskKey
    task_id: TaskId
    status: TaskStatus
    run_at: datetime
    created_at: datetime
    message: NewTask | None = None
    """What was asked for; None while only events came."""
    context: JsonObject = field(default_factory=dict)
    context_seq: int = 0
    seq: Seq = Seq(0)
    tokens: int = 0
    reason: str | None = None
    epoch: Epoch = Epoch(0)
    owner: WorkerId | None = None
    claims: int = 0
    wake: int = 0
    parked_for: tuple[str, ...] = ()
    is_urgent: bool = False
    """It is to be cancelled."""

    @property
    def tenant(self) -> str:
        return self.message.tenant if self.message else "default"

    def is_runnable(self, now: datetime) -> bool:
        return self.status in RUNNABLE and self.run_at <= now and self.run_at < INFINITY

    def owned_by(self, worker: WorkerId, now: datetime, *, run_at: datetime | None = None) -> None:
        """A new owner: a new epoch."""
        self.status, self.owner, self.epoch = TaskStatus.RUNNING, worker, Epoch(self.epoch + 1)
        self.claims += 1
        self.reason = None
        if run_at is not None:
            self.run_at = run_at

    def given_back(self, run_at: datetime) -> None:
        """Nobody's: a new epoch."""
        self.status, self.owner, self.epoch = TaskStatus.READY, None, Epoch(self.epoch + 1)
        self.run_at = run_at

    def orphaned(self, now: datetime) -> None:
        """Its worker is dead; after the second one, it waits."""
        self.given_back(min(self.run_at, now))
        if self.claims >= 2:
            self.status = TaskStatus.WAITING
            self.run_at = now + timedelta(seconds=3 ** min(self.claims - 2, 4))
            self.reason = "a pause, after workers that died with it"

    def delayed(self, run_at: datetime) -> None:
        self.status, self.run_at = TaskStatus.WAITING, run_at
        self.reason = "another try, after trouble inside a worker"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    step: Step
    epoch: Epoch

    @property
    def body(self) -> StepBody:
        return self.step.body


@dataclass(slots=True, kw_only=True)
class InboxRow:
    id: int
    task: TaskKey
    event_type: str
    event: NewEvent | None
    """None for the task's own message."""
    seq: int | None = None

    @property
    def event_id(self) -> str | None:
        return self.event.event_id if self.event else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A row of the outbox: a step, or a dead letter."""

    task: TaskKey | None = None
    seq: int | None = None
    topic: str | None = None
    reason: str = ""


@dataclass(slots=True, kw_only=True)
class WorkerRow:
    id: WorkerId
    name: str
    heartbeat_at: datetime


class Tables:
    """What is committed; only the statements of `ModelStore` write it."""

    def __init__(self) -> None:
        self.tasks: dict[TaskKey, TaskRow] = {}
        self.by_task_id: dict[TaskId, TaskKey] = {}
        self.steps: dict[TaskKey, dict[Seq, StepRow]] = {}
        self.inbox: dict[TaskKey, list[InboxRow]] = {}
        self.outbox: list[Told] = []
        self.positions: dict[tuple[str, int], int] = {}
        self.workers: dict[WorkerId, WorkerRow] = {}
        self._last_id = 0

    def next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def journal(self, key: TaskKey) -> list[StepRow]:
        """The task's steps in order."""
        return [row for _, row in sorted(self.steps.get(key, {}).items())]

    def unread(self, key: TaskKey) -> list[InboxRow]:
        return [row for row in self.inbox.get(key, ()) if row.seq is None]

    def running(self, owner: WorkerId) -> Iterator[TaskRow]:
        for row in self.tasks.values():
            if row.status is TaskStatus.RUNNING and row.owner == owner:
                yield row

    def add_step(self, key: TaskKey, epoch: Epoch, step: Step) -> bool:
        """False where that number is taken: nothing is added then."""
        steps = self.steps.setdefault(key, {})
        if step.seq in steps:
            return False
        steps[step.seq] = StepRow(step=step, epoch=epoch)
        self.outbox.append(Told(task=key, seq=step.seq))
        return True
