"""PostgreSQL and the model side by side: each statement goes to both, then all tables are equal.

Rows have other numbers in each, so they are known by what a user sees: tasks by their id, workers
by their name, messages by their place in their task's inbox.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import orjson

from orchestrator.domain.ids import TaskId, TaskKey, WorkerId
from orchestrator.store.database import Database
from orchestrator.store.ingest import Claimed, NewEvent, NewTask
from tests.fakes.workers import Feed
from tests.model.intake import ModelIntake
from tests.model.store import ModelStore
from tests.model.tables import INFINITY, Tables, TaskRow

T = TypeVar("T")

EMPTY = "TRUNCATE tasks, steps, inbox, outbox, kafka_positions, workers RESTART IDENTITY"

TASKS = """
SELECT t.task_id, t.status, t.seq, t.epoch, t.claims, t.wake, t.context, t.context_seq,
       t.reason IS NULL AS is_silent, w.name AS owner, t.owner IS NULL AS is_nobodys,
       CASE WHEN t.run_at = 'infinity' THEN 'never' WHEN t.run_at <= now() THEN 'due'
            ELSE 'later' END AS run,
       (SELECT json_agg(json_build_array(s.seq, s.kind, s.epoch) ORDER BY s.seq) FROM steps s
        WHERE s.task = t.id) AS steps,
       (SELECT json_agg(json_build_array(i.event_type, i.event_id, i.seq) ORDER BY i.id)
        FROM inbox i WHERE i.task = t.id) AS inbox,
       (SELECT json_agg(o.seq ORDER BY o.id) FROM outbox o WHERE o.task = t.id) AS told
FROM tasks t LEFT JOIN workers w ON w.id = t.owner ORDER BY t.task_id
"""

REST = """
SELECT (SELECT count(*) FROM outbox WHERE task IS NULL) AS letters,
       (SELECT json_agg(name ORDER BY name) FROM workers) AS workers,
       (SELECT sum(next_offset) FROM kafka_positions) AS position
"""

PASS_TASKS = "UPDATE tasks SET run_at = run_at - $1::interval"
PASS_WORKERS = "UPDATE workers SET heartbeat_at = heartbeat_at - $1::interval"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A claim as a worker remembers it, here and there."""

    task_id: TaskId
    real: Claimed
    model: Claimed


class Both:
    """The two stores, and who is who in them."""

    def __init__(
        self, database: Database, loop: asyncio.AbstractEventLoop, *, model: type[ModelStore]
    ) -> None:
        self.database = database
        self._loop = loop
        self._model_now = datetime(2030, 1, 1, tzinfo=UTC)
        self.tables = Tables()
        self.model = model(self.tables, now=lambda: self._model_now)
        self.intake = ModelIntake(self.tables, now=lambda: self._model_now)
        self.workers: dict[str, tuple[WorkerId, WorkerId]] = {}
        """The last life of each name: in PostgreSQL, in the model."""
        self.do(database.fetch(EMPTY))
        self.feed = Feed(database)

    def do(self, statement: Awaitable[T]) -> T:
        """The real statement's answer; the model's clock moves on, as now() does."""
        self._model_now += timedelta(milliseconds=1)

        async def wait() -> T:
            return await statement

        return self._loop.run_until_complete(wait())

    def pass_time(self, much: timedelta) -> None:
        self._model_now += much
        self.do(self.database.fetch(PASS_TASKS, much))
        self.do(self.database.fetch(PASS_WORKERS, much))

    def real_key(self, task_id: TaskId) -> TaskKey:
        row = self.do(self.database.fetch_one("SELECT id FROM tasks WHERE task_id = $1", task_id))
        assert row is not None, f"{task_id} is in the model alone"
        return TaskKey(row["id"])

    def model_key(self, task_id: TaskId) -> TaskKey:
        return self.tables.by_task_id[task_id]

    def row(self, task_id: TaskId) -> TaskRow:
        return self.tables.tasks[self.model_key(task_id)]

    def pair(self, real: Sequence[Claimed], model: Sequence[Claimed]) -> list[Held]:
        """The same claims in both, or it fails."""
        names = self.task_ids([c.key for c in real])
        found = {self.tables.tasks[c.key].task_id: c for c in model}
        assert sorted(names.values()) == sorted(found)
        pairs = [Held(task_id=names[c.key], real=c, model=found[names[c.key]]) for c in real]
        assert [h.real.epoch for h in pairs] == [h.model.epoch for h in pairs]
        return pairs

    def task_ids(self, keys: Sequence[TaskKey]) -> dict[TaskKey, TaskId]:
        sql = "SELECT id, task_id FROM tasks WHERE id = ANY($1::bigint[])"
        return {r["id"]: r["task_id"] for r in self.do(self.database.fetch(sql, list(keys)))}

    def inbox_ids(self, held: Held) -> tuple[list[int], list[int]]:
        """The unread messages of a task, in order, here and there."""
        sql = "SELECT id FROM inbox WHERE task = $1 AND seq IS NULL ORDER BY id"
        real = [r["id"] for r in self.do(self.database.fetch(sql, held.real.key))]
        return real, [row.id for row in self.tables.unread(held.model.key)]

    # Comparing

    def compare(self) -> None:
        """Every table says the same in both."""
        rows = [dict(r) for r in self.do(self.database.fetch(TASKS))]
        model = sorted(self.tables.tasks.values(), key=lambda row: row.task_id)
        assert [r["task_id"] for r in rows] == [row.task_id for row in model]
        for real, row in zip(rows, model, strict=True):
            modelled = self._modelled(row)
            other = {k: (v, modelled[k]) for k, v in self._real(real).items() if v != modelled[k]}
            assert not other, f"{row.task_id}: PostgreSQL's and the model's {other}"
        rest = self.do(self.database.fetch_one(REST))
        assert rest is not None
        letters = sum(told.topic is not None for told in self.tables.outbox)
        names = sorted(w.name for w in self.tables.workers.values())
        assert (rest["letters"], rest["workers"] or []) == (letters, names)
        assert (rest["position"] or 0) == sum(self.tables.positions.values())

    def _real(self, row: dict[str, Any]) -> dict[str, Any]:
        return {name: row[name] or ([] if name in ("steps", "inbox", "told") else row[name])
                for name in row}  # fmt: skip

    def _modelled(self, row: TaskRow) -> dict[str, Any]:
        owner = self.tables.workers.get(row.owner) if row.owner is not None else None
        is_due = row.run_at <= self._model_now
        inbox = self.tables.inbox.get(row.id, ())
        return {
            "task_id": row.task_id,
            "status": row.status.value,
            "seq": row.seq,
            "epoch": row.epoch,
            "claims": row.claims,
            "wake": row.wake,
            "context": row.context,
            "context_seq": row.context_seq,
            "is_silent": row.reason is None,
            "owner": owner.name if owner else None,
            "is_nobodys": row.owner is None,
            "run": "never" if row.run_at == INFINITY else "due" if is_due else "later",
            "steps": [[r.step.seq, r.body.kind, r.epoch] for r in self.tables.journal(row.id)],
            "inbox": [[m.event_type, m.event_id, m.seq] for m in inbox],
            "told": [t.seq for t in self.tables.outbox if t.task == row.id],
        }


def moved(message: NewTask | NewEvent, offset: int) -> NewTask | NewEvent:
    """The same message at another place of its partition."""
    return replace(message, origin=replace(message.origin, offset=offset))


def context_text(number: int) -> str:
    return orjson.dumps({"required_fields": [], "current_state": f"state {number}"}).decode()
