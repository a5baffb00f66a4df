"""What a worker holds in memory has a bound, whatever the tasks hold."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from typing import Any

from orchestrator.domain.decision import Turn
from orchestrator.domain.ids import WorkerId
from orchestrator.domain.snapshot import Snapshot
from orchestrator.engine.pace import PIECE
from orchestrator.engine.running import MAX_UNLOADED
from orchestrator.engine.worker import Worker
from orchestrator.store import claims, loading
from orchestrator.store.database import Database
from orchestrator.store.loading import LOAD, Deferred, Loaded
from tests.fakes.bus import until
from tests.fakes.scripted_caller import ScriptedCaller
from tests.fakes.scripted_planner import ScriptedPlanner, complete, slow
from tests.fakes.worker_process import ROOT, clean_environment
from tests.fakes.workers import Feed, Stalling, all_reach, running_worker, task_row

MIB = 1024 * 1024

# As large in memory as any other result, and small on disk. Of one size, made once and copied.
LARGE = """
WITH task AS (
    INSERT INTO tasks (task_id, status, context, seq, context_seq, bytes)
    SELECT gen_random_uuid(), 'ready', '{"required_fields": []}', 2, 2, $2::int
    FROM generate_series(1, $1::int) n RETURNING id
), accepted AS (
    INSERT INTO steps (task, seq, kind, body, epoch)
    SELECT id, 1, 'accepted', '{"description": "t", "source": "tasks/0/0"}', 0 FROM task
), result AS MATERIALIZED (
    SELECT body FROM steps WHERE kind = 'event'
    UNION ALL
    SELECT jsonb_build_object('event_type', 'data', 'source', 'events/0/0',
        'payload', jsonb_build_object('text', repeat('x', $2::int)))
    LIMIT 1
)
INSERT INTO steps (task, seq, kind, body, epoch) SELECT id, 2, 'event', body, 0 FROM task, result
"""


async def test_memory_stays_bounded_when_2000_large_tasks_resume_at_once(
    database: Database, database_url: str
) -> None:
    """All of them at once take more than 4 GB."""
    for tasks in (1, 499, 500, 500, 500):
        await database.fetch(LARGE, tasks, 2 * MIB)
    grown = await said_by("tests.fakes.resuming_worker", database_url, "2000", str(64 * MIB))
    assert int(grown) < 100 * MIB


async def test_thousands_of_tasks_wait_for_the_model_at_once(
    database: Database, database_url: str
) -> None:
    """10,000 take 14 kB each, and the event loop is late by 13 ms; here are fewer, in less time."""
    await database.fetch(LARGE, 3000, 100)
    bytes_each, late = (await said_by("tests.fakes.waiting_worker", database_url, "3000")).split()
    assert int(bytes_each) < 40_000
    assert float(late) < 0.25


async def said_by(module: str, *arguments: str) -> str:
    """The last line of a process."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *arguments,
        cwd=ROOT,
        env=clean_environment(),
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(300):
        said, _ = await process.communicate()
    assert process.returncode == 0
    return said.splitlines()[-1].decode()


async def most_at_once(database: Database, *, tasks: int, count: Callable[[Worker], int]) -> int:
    """Of a worker with room for 3 MB, until it has ended all."""
    planner = ScriptedPlanner(slow(complete(), seconds=0.05))
    most = 0
    async with running_worker(
        database, planner=planner, caller=ScriptedCaller(), max_loaded_bytes=3 * MIB
    ) as worker:

        def is_over() -> bool:
            nonlocal most
            most = max(most, count(worker))
            return planner.asks.total() == tasks

        await until(is_over, seconds=60)
        await all_reach(database, "completed", tasks=tasks)
        await until(lambda: worker.room() > 0)
    return most


async def test_what_does_not_fit_is_loaded_when_others_end(database: Database) -> None:
    await database.fetch(LARGE, 12, MIB)
    assert await most_at_once(database, tasks=12, count=lambda w: len(w._running._runners)) <= 4


async def test_a_worker_claims_little_more_than_it_has_memory_for(database: Database) -> None:
    """What it could only keep is left to others, and to a cancel that has to be quick."""
    await database.fetch(LARGE, 120, MIB)
    assert await most_at_once(database, tasks=120, count=lambda w: w.running) <= 4 * PIECE


async def test_claims_do_not_run_ahead_of_loads_that_postgresql_is_slow_to_answer(
    database: Database,
) -> None:
    await database.fetch(LARGE, 120, 100)
    slow_to_load = Stalling(database, only=LOAD)
    await slow_to_load.open()
    slow_to_load.stall()
    planner, caller = ScriptedPlanner(complete()), ScriptedCaller()
    try:
        async with running_worker(slow_to_load, planner=planner, caller=caller) as worker:
            await until(lambda: worker.running == MAX_UNLOADED, what="as many as may be")
            assert worker.room() == 0
            slow_to_load.go_on()
            await all_reach(database, "completed", tasks=120)
    finally:
        await slow_to_load.close()


async def test_a_task_larger_than_all_that_may_be_loaded_runs_alone(database: Database) -> None:
    await database.fetch(LARGE, 2, 2 * MIB)
    side_by_side: list[int] = []

    async def counts(_: Snapshot) -> Turn:
        side_by_side.append(len(worker._running._runners))
        return Turn(decision=complete())

    async with running_worker(
        database,
        planner=ScriptedPlanner(counts),
        caller=ScriptedCaller(),
        max_loaded_bytes=MIB,
    ) as worker:
        await all_reach(database, "completed", tasks=2)
    assert set(side_by_side) == {1}


async def test_a_task_counts_what_its_messages_and_steps_hold(
    database: Database, feed: Feed
) -> None:
    planner = ScriptedPlanner(complete())
    async with running_worker(database, planner=planner, caller=ScriptedCaller()) as worker:
        await feed.event("t", payload={"text": "x" * 10_000})
        await feed.task("t", to=worker)
        await all_reach(database, "completed", tasks=1)
    # The event as it came and as a step, with the change that it makes.
    assert 30_000 < (await task_row(database, "t"))["bytes"] < 32_000


async def test_a_load_takes_what_fits_and_defers_the_rest(database: Database) -> None:
    await database.fetch(LARGE, 5, 1000)
    mine = await claims.claim(database, WorkerId(1), limit=5, shared_claims=5)
    keys = sorted(task.key for task in mine)
    found = await loading.load(database, WorkerId(1), keys, max_bytes=1500)
    loaded = [t.snapshot.task.key for t in found if isinstance(t, Loaded)]
    deferred = [t.key for t in found if isinstance(t, Deferred)]
    assert (sorted(loaded), sorted(deferred)) == (keys[:2], keys[2:])
    assert await loading.load(database, WorkerId(2), keys, max_bytes=1500) == []


async def test_what_does_not_fit_is_not_read(database: Database) -> None:
    await database.fetch(LARGE, 40, 1000)
    mine = await claims.claim(database, WorkerId(1), limit=40, shared_claims=5)
    rows = await database.fetch(
        f"EXPLAIN (ANALYZE, FORMAT JSON) {LOAD}", [task.key for task in mine], 1, 1500
    )
    assert len(mine) == 40
    assert sum(reads_of_steps(rows[0][0][0]["Plan"])) == 2


def reads_of_steps(plan: dict[str, Any]) -> Iterator[int]:
    """How often each part of the plan looked for the steps of a task."""
    if plan.get("Relation Name", "").startswith("steps"):
        yield plan["Actual Loops"]
    for part in plan.get("Plans", ()):
        yield from reads_of_steps(part)
