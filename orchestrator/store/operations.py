"""What people change about a task that came to its end: send it back to work.

It is one statement that takes the task's row first, like all others; the caller sends the notice.
"""

from collections.abc import Mapping, Sequence

import orjson

from orchestrator.domain.errors import NotAllowed
from orchestrator.domain.ids import TaskId
from orchestrator.domain.step import Retried, dump_body
from orchestrator.domain.task import TaskStatus
from orchestrator.store.database import Database, Row
from orchestrator.store.history import no_such_task

_LOOK = """
    SELECT t.id, t.task_id, t.status, t.seq, t.epoch,
           EXISTS (SELECT FROM steps s WHERE s.task = t.id AND s.kind = 'accepted') AS was_accepted,
           -- What it did is undone, so it can't go on as if it were not. What it copied from the
           -- task that it was forked from says nothing of its own effects.
           t.status = 'failed' AND EXISTS (
               SELECT FROM steps s WHERE s.task = t.id AND s.kind = 'compensating'
               AND s.seq > coalesce((SELECT max(f.seq) FROM steps f
                                     WHERE f.task = t.id AND f.kind = 'forked'), 0)
           ) AS is_undone
    FROM tasks t WHERE t.task_id = ANY($1)
"""

# Nobody owns a task that came to its end, so its journal may be written here. The epoch grows, as
# with every change that a worker did not make.
RETRY = f"""
WITH locked AS MATERIALIZED ({_LOOK} FOR UPDATE
), step AS (
    INSERT INTO steps (task, seq, kind, body, epoch)
    SELECT id, seq + 1, 'retried', $2::jsonb, epoch + 1 FROM locked
    WHERE status IN ('failed', 'quarantined') AND was_accepted AND NOT is_undone
    RETURNING task, seq
), told AS (
    INSERT INTO outbox (task, seq) SELECT task, seq FROM step
), changed AS (
    UPDATE tasks t SET
        status = 'ready', epoch = t.epoch + 1, seq = step.seq, claims = 0, owner = NULL,
        run_at = now(), reason = NULL, finished_at = NULL, updated_at = now()
    FROM step WHERE t.id = step.task
)
SELECT l.status, l.was_accepted, l.is_undone, EXISTS (SELECT FROM step) AS done FROM locked l
"""  # noqa: S608 - of constants


async def retry(
    database: Database, task_id: TaskId, *, by: str = "", reason: str = ""
) -> TaskStatus:
    """Sends a failed or quarantined task back to work; answers the status in which it was.

    Who wanted that, and why, is kept in the journal.

    Raises:
        NotFound: there is no such task.
        NotAllowed: it did not fail, its effects were undone, or no task message ever came for it.
    """
    body = orjson.loads(dump_body(Retried(by=by, reason=reason)))
    row = await database.fetch_one(RETRY, [task_id], body)
    if row is None:
        raise no_such_task(task_id)
    if not row["done"]:
        raise NotAllowed(_why_not(task_id, row))
    return TaskStatus(row["status"])


async def not_retryable(database: Database, task_ids: Sequence[TaskId]) -> Mapping[TaskId, str]:
    """Those of these tasks that `retry` would refuse, and why."""
    rows = {TaskId(row["task_id"]): row for row in await database.fetch(_LOOK, task_ids)}
    missing = {task_id: str(no_such_task(task_id)) for task_id in task_ids if task_id not in rows}
    refused = {i: _why_not(i, row) for i, row in rows.items() if not _may_go_back(row)}
    return {**missing, **refused}


def _may_go_back(row: Row) -> bool:
    is_over = row["status"] in (TaskStatus.FAILED, TaskStatus.QUARANTINED)
    return is_over and row["was_accepted"] and not row["is_undone"]


def _why_not(task_id: TaskId, row: Row) -> str:
    if row["is_undone"]:
        return f"task {task_id!r} failed and its effects were undone: publish it under a new id"
    if not row["was_accepted"]:
        return f"task {task_id!r}: only events came for it; publish the task itself"
    return f"task {task_id!r} is {row['status']}; only a failed or quarantined task can be retried"
