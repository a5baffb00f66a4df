"""Reading tasks for people: lists, one task with its context at any step or time, and its steps.

Nothing in here writes or locks; the views and functions of the schema do the arithmetic.
"""

from dataclasses import dataclass
from datetime import datetime

from orchestrator.domain.budget import Budget
from orchestrator.domain.errors import NotAllowed, NotFound
from orchestrator.domain.ids import Epoch, Seq, TaskId
from orchestrator.domain.json import JsonObject
from orchestrator.domain.task import TaskStatus
from orchestrator.store.database import Database, Row

LIST = r"""
SELECT t.id, p.* FROM (
    SELECT id, task_id FROM tasks
    WHERE ($1::text[] IS NULL OR status = ANY($1))
      AND ($2::text IS NULL OR tenant = $2)
      AND ($3::text IS NULL OR strpos(lower(task_id), lower($3)) > 0
                            OR strpos(lower(description), lower($3)) > 0)
      AND ($4::text IS NULL OR id < (SELECT id FROM tasks WHERE task_id = $4))
    ORDER BY id DESC LIMIT $5
) t JOIN task_progress p USING (task_id)
ORDER BY t.id DESC
"""

ONE = "SELECT p.* FROM task_progress p WHERE p.task_id = $1"

DETAILS = """
SELECT t.kind, t.priority, t.deadline, t.budget_tokens, t.budget, t.metadata,
       nullif(t.run_at, 'infinity') AS run_at, t.epoch, t.traceparent,
       w.name AS worker,
       (SELECT s.body->'result' FROM steps s WHERE s.task = t.id AND s.kind = 'completed'
        ORDER BY s.seq DESC LIMIT 1) AS result,
       (SELECT count(*) FROM inbox i WHERE i.task = t.id AND i.seq IS NULL) AS unread,
       CASE WHEN $2::int IS NOT NULL THEN context_at(t.task_id, $2::int)
            WHEN $3::timestamptz IS NOT NULL THEN context_at(t.task_id, $3::timestamptz)
            ELSE coalesce(context_at(t.task_id, t.seq), t.context) END AS context
FROM tasks t LEFT JOIN workers w ON w.id = t.owner
WHERE t.task_id = $1
"""

STEPS = """
SELECT task_id, seq, at, kind, agent, status, attempt, duration_ms, input_tokens, output_tokens,
       cost, summary, body, change
FROM task_steps WHERE task_id = $1 AND seq > $2 ORDER BY seq LIMIT $3
"""

EPOCHS = """
SELECT s.seq, s.epoch FROM steps s JOIN tasks t ON t.id = s.task WHERE t.task_id = $1
"""

OVER = (
    TaskStatus.COMPLETED,
    TaskStatus.FAILED,
    TaskStatus.CANCELLED,
    TaskStatus.QUARANTINED,
)

MAX_STEPS = 10_000
"""Of one answer; more than the limits let a task make."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFilter:
    """Which tasks a list holds; what is None does not filter."""

    statuses: tuple[TaskStatus, ...] = ()
    """Any of these; empty for all."""
    tenant: str | None = None
    text: str | None = None
    """Part of the id or the description, in any case."""
    after: TaskId | None = None
    """The last task of the page before: newest tasks come first."""
    limit: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """A line of a list."""

    task_id: TaskId
    status: TaskStatus
    description: str
    tenant: str
    current_state: str | None
    reason: str | None
    """What it waits for, or why it failed."""
    collected: int
    required: int
    missing: tuple[str, ...]
    steps: int
    tokens: int
    cost: float
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None
    age_seconds: float
    """From its acceptance to its end, or to this moment."""

    @property
    def is_over(self) -> bool:
        """Nothing happens to it any more, unless a person retries it."""
        return self.status in OVER


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDetails:
    """One task, whole but for its steps."""

    row: TaskRow
    kind: str
    priority: int
    deadline: datetime | None
    budget: JsonObject
    """What the task message said; `cost_micros` are millionths."""
    metadata: JsonObject
    run_at: datetime | None
    """When it will be looked at again; None where only an event wakes it, or nothing does."""
    epoch: int
    worker: str | None
    """Who runs it."""
    traceparent: str | None
    unread: int
    """Messages that are not applied yet."""
    result: JsonObject | None
    context: JsonObject
    """As of the step or time that was asked for; None where the task did not exist yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    """A line of a task's journal."""

    seq: Seq
    at: datetime
    kind: str
    agent: str | None
    status: str | None
    attempt: int | None
    duration_ms: int | None
    input_tokens: int | None
    output_tokens: int | None
    cost: float | None
    summary: str | None
    body: JsonObject
    change: JsonObject | None


def _row(r: Row) -> TaskRow:
    return TaskRow(
        task_id=TaskId(r["task_id"]),
        status=TaskStatus(r["status"]),
        description=r["description"],
        tenant=r["tenant"],
        current_state=r["current_state"],
        reason=r["reason"],
        collected=r["collected"],
        required=r["required"],
        missing=tuple(r["missing"]),
        steps=r["steps"],
        tokens=r["tokens"],
        cost=float(r["cost"]),
        created_at=r["created_at"],
        updated_at=r["updated_at"],
        finished_at=r["finished_at"],
        age_seconds=r["age"].total_seconds(),
    )


def _step(r: Row) -> StepRow:
    return StepRow(
        seq=Seq(r["seq"]),
        at=r["at"],
        kind=r["kind"],
        agent=r["agent"],
        status=r["status"],
        attempt=r["attempt"],
        duration_ms=r["duration_ms"],
        input_tokens=r["input_tokens"],
        output_tokens=r["output_tokens"],
        cost=None if r["cost"] is None else float(r["cost"]),
        summary=r["summary"],
        body=r["body"],
        change=r["change"],
    )


async def list_tasks(database: Database, wanted: TaskFilter) -> list[TaskRow]:
    """The newest tasks that pass the filter.

    Raises:
        NotFound: there is no task `after`.
    """
    if wanted.after is not None:
        await find_task(database, wanted.after)
    rows = await database.fetch(
        LIST,
        [s.value for s in wanted.statuses] or None,
        wanted.tenant,
        wanted.text,
        wanted.after,
        wanted.limit,
    )
    return [_row(r) for r in rows]


async def find_task(database: Database, task_id: TaskId) -> TaskRow:
    """The task's line.

    Raises:
        NotFound: there is no such task.
    """
    row = await database.fetch_one(ONE, task_id)
    if row is None:
        raise no_such_task(task_id)
    return _row(row)


def no_such_task(task_id: TaskId) -> NotFound:
    return NotFound(
        f"there is no task {task_id!r}; `orchestrator tasks list` shows those there are"
    )


async def show_task(
    database: Database, task_id: TaskId, *, step: Seq | None = None, at: datetime | None = None
) -> TaskDetails:
    """The task with its context as of its last step, of step `step`, or of the time `at`.

    Raises:
        NotFound: there is no such task, or was none at that time.
        NotAllowed: it has no such step.
    """
    row = await find_task(database, task_id)
    if step is not None and not 1 <= step <= row.steps:
        raise _no_such_step(row, step)
    r = await database.fetch_one(DETAILS, task_id, step, at)
    assert r is not None, "tasks are never deleted between two reads"
    if at is not None and r["context"] is None:
        raise NotFound(f"task {task_id!r} was not there yet at {at.isoformat()}")
    return TaskDetails(
        row=row,
        kind=r["kind"],
        priority=r["priority"],
        deadline=r["deadline"],
        budget=Budget.of_row(tokens=r["budget_tokens"], document=r["budget"]).to_json(),
        metadata=r["metadata"],
        run_at=r["run_at"],
        epoch=r["epoch"],
        worker=r["worker"],
        traceparent=r["traceparent"],
        unread=r["unread"],
        result=r["result"],
        context=r["context"],
    )


def _no_such_step(row: TaskRow, step: Seq) -> NotAllowed:
    there = f"its steps are 1 to {row.steps}" if row.steps else f"it is {row.status}, and has none"
    return NotAllowed(f"task {row.task_id!r} has no step {step}: {there}")


async def steps_of(
    database: Database, task_id: TaskId, *, after: Seq = Seq(0), limit: int = MAX_STEPS
) -> list[StepRow]:
    """The task's steps from the one that follows `after`, in order."""
    return [_step(r) for r in await database.fetch(STEPS, task_id, after, limit)]


async def epochs_of(database: Database, task_id: TaskId) -> dict[Seq, Epoch]:
    """Under which epoch each step was written: who owned the task then."""
    rows = await database.fetch(EPOCHS, task_id)
    return {Seq(r["seq"]): Epoch(r["epoch"]) for r in rows}
