"""A flood of one tenant does not keep the others waiting."""

import asyncio
from datetime import timedelta

from orchestrator.domain.decision import Turn
from orchestrator.domain.snapshot import Snapshot
from orchestrator.store.database import Database
from tests.fakes.bus import until
from tests.fakes.scripted_caller import ScriptedCaller
from tests.fakes.scripted_planner import ScriptedPlanner, complete, slow
from tests.fakes.workers import Feed, reaches, running_worker, start_worker

RARELY = timedelta(seconds=30)


FLOOD = """
WITH task AS (
    INSERT INTO tasks (task_id, tenant, status, context, seq, context_seq)
    SELECT gen_random_uuid(), 'loud', 'ready', '{"required_fields": []}', 1, 1
    FROM generate_series(1, $1::int) RETURNING id
)
INSERT INTO steps (task, seq, kind, body, epoch)
SELECT id, 1, 'accepted', '{"description": "t", "source": "tasks/0/0"}', 0 FROM task
"""


class Gate:
    """A turn that takes as long as the test wants it to."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def __call__(self, _: Snapshot) -> Turn:
        await self.open.wait()
        return Turn(decision=complete())


async def test_ingest_claims_nothing_while_others_wait_for_room(
    database: Database, feed: Feed
) -> None:
    gate = Gate()
    planner = ScriptedPlanner(gate)
    async with running_worker(
        database, planner=planner, caller=ScriptedCaller(), concurrency=2, poll=RARELY
    ) as worker:
        flood = [feed.new_task(f"flood-{n}", tenant="loud") for n in range(5)]
        assert len((await feed.send(flood, to=worker)).claimed) == 2
        assert worker.room() == 0
        gate.open.set()
        await reaches(database, "flood-4", "completed")
        await until(lambda: worker.room() == 2, what="nobody waits any more")


async def test_a_flood_of_one_tenant_leaves_the_others_latency_as_it_is(
    database: Database, feed: Feed
) -> None:
    """Turns of 20 ms, ten at a time: the flood alone takes seconds, another's task does not."""
    planner = ScriptedPlanner(slow(complete(), seconds=0.02))
    started = await start_worker(database, planner=planner, caller=ScriptedCaller(), concurrency=10)
    try:
        for batch in range(6):
            names = [f"flood-{batch}-{n}" for n in range(500)]
            tasks = [feed.new_task(name, tenant="loud", priority=0) for name in names]
            await feed.send(tasks, to=started.worker)
        took = []
        for n in range(15):
            await feed.task(f"quiet-{n}", tenant="quiet", priority=2, to=started.worker)
            row = await reaches(database, f"quiet-{n}", "completed")
            took.append(row["finished_at"] - row["created_at"])
        assert max(took) < timedelta(seconds=1)
        left = await database.fetch_one("SELECT count(*) n FROM tasks WHERE status = 'ready'")
        assert left is not None
        assert left["n"] > 500, "the flood was over before the others came"
    finally:
        await started.kill()


async def test_200000_tasks_of_one_tenant_leave_the_others_latency_as_it_is(
    database: Database, feed: Feed
) -> None:
    for _ in range(10):
        await database.fetch(FLOOD, 20_000)
    await database.fetch("ANALYZE tasks")
    planner = ScriptedPlanner(slow(complete(), seconds=0.02))
    started = await start_worker(database, planner=planner, caller=ScriptedCaller(), concurrency=10)
    try:
        await until(lambda: started.worker.running == 10, seconds=10)
        took = []
        for n in range(50):
            await feed.task(f"quiet-{n}", tenant="quiet", to=started.worker)
            row = await reaches(database, f"quiet-{n}", "completed")
            took.append(row["finished_at"] - row["created_at"])
        assert max(took) < timedelta(seconds=1)
    finally:
        await started.kill()
