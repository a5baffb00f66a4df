"""What people change about a task that came to its end: send it back to work.

It is one statement that takes the task's row first, like all others; the caller sends the notice.
"""

from orchestrator.domain.errors import NotAllowed
from orchestrator.domain.ids import TaskId
from orchestrator.domain.task import TaskStatus
from orchestrator.store.database import Database
from orchestrator.store.history import no_such_task

# Nobody owns a task that came to its end, so its journal may be written here. The epoch grows, as
# with every change that a worker did not make.
RETRY = """
WITH locked AS MATERIALIZED (
    SELECT t.id, t.status, t.seq, t.epoch,
           EXISTS (SELECT FROM steps s WHERE s.task = t.id AND s.kind = 'accepted') AS was_accepted,
           -- What it did is undone, so it can't go on as if it were not. What it copied from the
           -- task that it was forked from says nothing of its own effects.
           t.status = 'failed' AND EXISTS (
               SELECT FROM steps s WHERE s.task = t.id AND s.kind = 'compensating'
               AND s.seq > coalesce((SELECT max(f.seq) FROM steps f
                                     WHERE f.task = t.id AND f.kind = 'forked'), 0)
           ) AS is_undone
    FROM tasks t WHERE t.task_id = $1 FOR UPDATE
), step AS (
    INSERT INTO steps (task, seq, kind, body, epoch)
    SELECT id, seq + 1, 'retried', '{}', epoch + 1 FROM locked
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
"""


async def retry(database: Database, task_id: TaskId) -> TaskStatus:
    """Sends a failed or quarantined task back to work; answers the status in which it was.

    Raises:
        NotFound: there is no such task.
        NotAllowed: it did not fail, its effects were undone, or no task message ever came for it.
    """
    row = await database.fetch_one(RETRY, task_id)
    if row is None:
        raise no_such_task(task_id)
    if not row["done"]:
        if row["is_undone"]:
            raise NotAllowed(
                f"task {task_id!r} failed and its effects were undone: publish it under a new id"
            )
        raise NotAllowed(_why_not(task_id, row["status"], was_accepted=row["was_accepted"]))
    return TaskStatus(row["status"])


def _why_not(task_id: TaskId, status: str, *, was_accepted: bool) -> str:
    if not was_accepted:
        return f"task {task_id!r}: only events came for it; publish the task itself"
    return f"task {task_id!r} is {status}; only a failed or quarantined task can be retried"
