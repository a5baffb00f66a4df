"""A task as the engine sees it: what a user asked for, and the states that it goes through."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum

from orchestrator.domain.budget import NO_BUDGET, Budget
from orchestrator.domain.ids import TaskId, TaskKey
from orchestrator.domain.json import JsonObject


class TaskStatus(StrEnum):
    """Stored in `tasks.status`; never rename."""

    EXPECTED = "expected"
    """An event came before its task."""
    READY = "ready"
    """To be claimed when `run_at` has come."""
    RUNNING = "running"
    """A worker owns it."""
    WAITING = "waiting"
    """For an event, an answer or a time; costs a row and nothing else."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    QUARANTINED = "quarantined"
    """Claimed again and again without a step: it may be what kills its workers."""

    @property
    def is_final(self) -> bool:
        """Whether no event and no worker moves the task any more."""
        return self in (self.COMPLETED, self.FAILED, self.CANCELLED)

    @property
    def is_due(self) -> bool:
        """Whether it is to be claimed at once: a message came while it was coming to rest."""
        return self is TaskStatus.READY


TRANSITIONS: dict[TaskStatus, frozenset[TaskStatus]] = {
    # Or the row is deleted, when no task came in time.
    TaskStatus.EXPECTED: frozenset({TaskStatus.READY, TaskStatus.RUNNING}),
    TaskStatus.READY: frozenset({TaskStatus.RUNNING, TaskStatus.QUARANTINED}),
    TaskStatus.RUNNING: frozenset(
        {
            TaskStatus.READY,
            TaskStatus.WAITING,
            TaskStatus.COMPLETED,
            TaskStatus.FAILED,
            TaskStatus.CANCELLED,
        }
    ),
    TaskStatus.WAITING: frozenset({TaskStatus.READY, TaskStatus.RUNNING, TaskStatus.QUARANTINED}),
    # What a person may do to a task that failed: `orchestrator tasks retry`.
    TaskStatus.FAILED: frozenset({TaskStatus.READY}),
    TaskStatus.QUARANTINED: frozenset({TaskStatus.READY}),
    TaskStatus.COMPLETED: frozenset(),
    TaskStatus.CANCELLED: frozenset(),
}
"""Which status may follow which; `docs/state-machine.md` is held equal to this."""


class Priority(IntEnum):
    """Stored in `tasks.priority`; the smaller has the greater head start."""

    CRITICAL = -1
    HIGH = 0
    NORMAL = 1
    LOW = 2


HEAD_START: dict[Priority, timedelta] = {
    Priority.CRITICAL: timedelta(hours=1),
    Priority.HIGH: timedelta(minutes=10),
    Priority.NORMAL: timedelta(minutes=5),
    Priority.LOW: timedelta(0),
}
"""A tenant's tasks are taken by due time, each as if it had been due this much earlier.

So all grow older alike, and none starves: what is low comes before anything that became due an hour
after it.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a user published; nothing in here changes while the task runs."""

    key: TaskKey
    task_id: TaskId
    description: str
    kind: str = "agentic"
    tenant: str = "default"
    deadline: datetime | None = None
    """Aware UTC; a task that is not done by then fails."""
    budget: Budget = NO_BUDGET
    metadata: JsonObject = field(default_factory=dict)
    created_at: datetime
    traceparent: str | None = None
