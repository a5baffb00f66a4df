"""PostgreSQL goes away under a busy worker and comes back: nothing is lost, nothing repeated."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from orchestrator.store.database import Database
from tests.fakes.bus import until
from tests.fakes.scripted_caller import ScriptedCaller, takes
from tests.fakes.scripted_planner import ScriptedPlanner, complete, delegate
from tests.fakes.workers import Feed, all_reach, kinds, running_worker
from tests.fixtures.servers import PostgresServer

TASKS = 50
TURNS = 4
PARKING = ("call_parked", "call_started")

Break = Callable[[PostgresServer], Awaitable[None]]


async def is_killed(postgres: PostgresServer) -> None:
    await postgres.kill()
    await postgres.start()


async def is_frozen(postgres: PostgresServer) -> None:
    postgres.freeze()
    thawed = asyncio.Event()
    asyncio.get_running_loop().call_later(3, thawed.set)
    await thawed.wait()
    postgres.thaw()


async def is_restarted(postgres: PostgresServer) -> None:
    await postgres.stop()
    await postgres.start()


@pytest.mark.parametrize("break_it", [is_killed, is_frozen, is_restarted])
async def test_tasks_complete_though_postgresql(
    database: Database, feed: Feed, postgres: PostgresServer, break_it: Break
) -> None:
    planner = ScriptedPlanner(*[delegate("crm", "billing")] * TURNS, complete())
    caller = ScriptedCaller(crm=takes(0.1), billing=takes(0.02))
    lease = timedelta(seconds=2)
    async with running_worker(database, planner=planner, caller=caller, lease=lease) as worker:
        await feed.send([feed.new_task(f"t-{n}") for n in range(TASKS)], to=worker)
        await until(lambda: caller.sends.total() > TASKS * TURNS, seconds=20)
        await break_it(postgres)
        await all_reach(database, "completed", tasks=TASKS, seconds=40)
    expected = ["accepted"] + ["decision", "result", "result"] * TURNS + ["decision", "completed"]
    for n in range(TASKS):
        # On a busy machine a slot may not be free within a second: the call is parked, no more.
        found = [k for k in await kinds(database, f"t-{n}") if k not in PARKING]
        assert found == expected
    assert set(caller.effects.values()) == {1}
    assert len(caller.effects) == TASKS * TURNS * 2
