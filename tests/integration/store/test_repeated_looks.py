"""What every worker looks for every few seconds costs as little with 100000 tasks as with ten."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest_asyncio

from orchestrator.store import claims, upkeep, workers
from orchestrator.store.database import Database, DatabaseOptions

LEASE = timedelta(seconds=10)
FILL = """
INSERT INTO tasks (task_id, status, run_at, owner, tenant)
SELECT status || n, status, run_at, owner, 't' || n % 5
FROM (VALUES ('waiting', 50000, 'infinity'::timestamptz, NULL::bigint),
             ('completed', 40000, 'infinity', NULL),
             ('ready', 10000, now(), NULL),
             ('running', 500, now(), $1),
             ('expected', 500, now() + interval '1 day', NULL))
     AS s(status, tasks, run_at, owner),
     generate_series(1, tasks) n
"""
LATER = datetime.now(UTC) + timedelta(hours=1)
INBOX = """
INSERT INTO inbox (task, event_type, payload, seq, source)
SELECT id, 'task', '{}', 1, 'tasks/0/1' FROM tasks
"""
LOOKS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "reap": (claims.REAP, (LEASE, LATER)),
    "quarantine": (upkeep.QUARANTINE, (5, "dead-letters")),
    "expire": (upkeep.EXPIRE, ("dead-letters",)),
    "owned": (claims.OWNED, (1,)),
    "count": (upkeep.COUNT_RUNNABLE, ()),
    "wake": (claims.WAKE_DUE, ()),
    "claim": (claims.CLAIM, (1, 20, 5, ["t1"], [2.0])),
}


@pytest_asyncio.fixture(loop_scope="session")
async def crowded(database_url: str) -> AsyncIterator[Database]:
    """100000 tasks with their messages; one connection, so that its settings stay."""
    database = Database(
        DatabaseOptions(url=database_url, pool_size=1, statement_timeout_seconds=120)
    )
    await database.open()
    await database.fetch(FILL, await workers.register(database, "w"))
    await database.fetch(INBOX)
    await database.fetch("ANALYZE")
    yield database
    await database.close()


async def test_repeated_looks_read_indexes_and_never_all_tasks(crowded: Database) -> None:
    for mode in ("force_generic_plan", "force_custom_plan"):
        await crowded.fetch(f"SET plan_cache_mode = {mode}")
        plans = {
            name: await crowded.fetch(f"EXPLAIN {sql}", *args)
            for name, (sql, args) in LOOKS.items()
        }
        scans = {
            name: line[0].strip()
            for name, plan in plans.items()
            for line in plan
            if "Seq Scan on tasks" in line[0] or "Seq Scan on inbox" in line[0]
        }
        assert scans == {}, mode


async def test_a_claim_reads_as_little_beside_a_hundred_thousand_tasks_as_beside_a_few(
    crowded: Database,
) -> None:
    for mode in ("force_generic_plan", "force_custom_plan"):
        await crowded.fetch(f"SET plan_cache_mode = {mode}")
        for name, pages in {"claim": 600, "wake": 30, "quarantine": 30}.items():
            sql, args = LOOKS[name]
            rows = await crowded.fetch(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", *args)
            plan = rows[0][0][0]["Plan"]
            read = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
            assert read <= pages, (name, mode, read)
