"""The calls of a task's last decision, or that undo its effects, without a result: who answers."""

from dataclasses import dataclass
from datetime import datetime

from orchestrator.domain.ids import AgentId, Seq, TaskId, idempotency_key
from orchestrator.domain.task import TaskStatus
from orchestrator.store.database import Database, Row

# A decision's calls, each with the last that the journal says of it.
OPEN_CALLS = """
SELECT d.seq AS step, (c->>'number')::int AS call, c->>'agent' AS agent,
       coalesce(known.at, d.at) AS since, known.kind, known.body, t.status
FROM tasks t
CROSS JOIN LATERAL (
    SELECT s.seq, s.at, coalesce(s.body->'decision'->'calls', s.body->'undo') AS calls FROM steps s
    WHERE s.task = t.id AND s.kind IN ('decision', 'compensating') ORDER BY s.seq DESC LIMIT 1
) d
CROSS JOIN LATERAL jsonb_array_elements(
    CASE WHEN jsonb_typeof(d.calls) = 'array' THEN d.calls ELSE '[]' END) AS c
LEFT JOIN LATERAL (
    SELECT s.kind, s.body, s.at FROM steps s
    WHERE s.task = t.id AND s.seq > d.seq
      AND s.body->>'step' = d.seq::text AND s.body->>'call' = c->>'number'
    ORDER BY s.seq DESC LIMIT 1
) known ON true
WHERE t.task_id = $1 AND t.status IN ('ready', 'running', 'waiting')
  AND NOT (known.kind IS NOT DISTINCT FROM 'result'
           AND known.body->>'status' NOT IN ('accepted', 'unknown'))
ORDER BY call
"""

STATES = {
    "result": "the agent said that it will answer later",
    "attempt_failed": "to be tried again",
    "call_started": "under way",
}
"""By the kind of the last step that names the call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenCall:
    """A call that somebody has to answer, or is being made."""

    step: Seq
    call: int
    agent: AgentId
    key: str
    """Its `Idempotency-Key`: what the agent knows it by."""
    since: datetime
    state: str
    """For people: what is known of it, or the question about it."""


def _open_call(row: Row, task_id: TaskId) -> OpenCall:
    step, call, body = Seq(row["step"]), row["call"], row["body"] or {}
    return OpenCall(
        step=step,
        call=call,
        agent=AgentId(row["agent"]),
        key=idempotency_key(task_id, step=step, call=call),
        since=row["since"],
        state=_parked(row) or body.get("error") or STATES.get(row["kind"], "under way"),
    )


def _parked(row: Row) -> str | None:
    """Why it does not go out. Of a call that may be sent, no step says that it goes out again."""
    if row["kind"] != "call_parked":
        return None
    body = row["body"]
    may_be_out = row["status"] == TaskStatus.RUNNING and body.get("may_be_sent", True)
    return f"parked{', or under way again' if may_be_out else ''}: {body['reason']}"


async def open_calls(database: Database, task_id: TaskId) -> list[OpenCall]:
    """None for a task that is over, or that is not there."""
    return [_open_call(row, task_id) for row in await database.fetch(OPEN_CALLS, task_id)]
