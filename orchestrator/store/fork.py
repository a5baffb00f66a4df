"""A new task that shares another's journal up to a step, and goes on from there by itself.

One statement: the steps are copied under their numbers, so what they decided and what their calls
brought counts for the new task too. What was under way then belongs to the old one.
"""

import orjson

from orchestrator.domain.context import Context
from orchestrator.domain.errors import NotAllowed
from orchestrator.domain.ids import TaskId
from orchestrator.domain.step import Forked, dump_body
from orchestrator.store.database import Database
from orchestrator.store.history import show_task

# A deadline that is over would end the new task before it began. The copies bear the epoch 0, for
# nobody of the new task's wrote them; only the step `forked` is told to Kafka, with the whole
# context in its change: the others were told of the old task.
FORK = """
WITH source AS MATERIALIZED (
    SELECT t.*, context_apply(context_at(t.task_id, $2::int), $4::jsonb) AS begins_with
    FROM tasks t WHERE t.task_id = $1 AND t.seq >= $2
), made AS (
    INSERT INTO tasks (task_id, kind, tenant, description, status, context, context_seq, seq,
                       priority, deadline, budget_tokens, budget, metadata, traceparent, bytes)
    SELECT $3, kind, tenant, description, 'ready', begins_with, $2 + 1, $2 + 1,
           priority, CASE WHEN deadline > now() THEN deadline END, budget_tokens, budget,
           metadata, traceparent, bytes
    FROM source
    ON CONFLICT (task_id) DO NOTHING
    RETURNING id
), copied AS (
    INSERT INTO steps (task, seq, kind, body, change, epoch, at)
    SELECT m.id, s.seq, s.kind, s.body, s.change, 0, s.at
    FROM made m CROSS JOIN source o JOIN steps s ON s.task = o.id AND s.seq <= $2
), forked AS (
    INSERT INTO steps (task, seq, kind, body, change, epoch)
    SELECT m.id, $2 + 1, 'forked', $5::jsonb, o.begins_with, 0 FROM made m CROSS JOIN source o
), told AS (
    INSERT INTO outbox (task, seq) SELECT id, $2 + 1 FROM made
)
SELECT EXISTS (SELECT FROM made) AS is_made
"""


async def fork(database: Database, body: Forked, *, new: TaskId) -> None:
    """Makes the task `new` from the one that `body` names, as of its step.

    Raises:
        NotFound: there is no such task.
        NotAllowed: it has no such step, or there is a task `new` already.
    """
    details = await show_task(database, TaskId(body.task), step=body.step)
    context = Context.from_json(details.context)
    change = context.event_change(body.given, by="person") if body.given else {}
    row = await database.fetch_one(
        FORK, body.task, body.step, new, change, orjson.loads(dump_body(body))
    )
    assert row is not None
    if not row["is_made"]:
        raise NotAllowed(f"there is a task {new!r} already: give another --id")
