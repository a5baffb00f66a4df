"""T2: whose turn it is, and which of a tenant's tasks is taken first."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any

import pytest
import pytest_asyncio

from orchestrator.domain.ids import WorkerId
from orchestrator.domain.task import HEAD_START, Priority
from orchestrator.store import claims, workers
from orchestrator.store.database import Database, DatabaseOptions
from tests.fakes.workers import Feed, task_row

HOUR = timedelta(hours=1)

READY = """
INSERT INTO tasks (task_id, status, run_at, tenant, priority)
SELECT gen_random_uuid(), $2, now() - $3::interval, $1, $4 FROM generate_series(1, $5::int)
"""


@pytest_asyncio.fixture(loop_scope="session")
async def database(database_url: str) -> AsyncIterator[Database]:
    """One connection, so that its seed stays: the lottery draws the same each time."""
    database = Database(DatabaseOptions(url=database_url, pool_size=1))
    await database.open()
    await database.fetch("SELECT setseed(0.4)")
    yield database
    await database.close()


@pytest_asyncio.fixture(loop_scope="session")
async def worker(database: Database) -> WorkerId:
    return await workers.register(database, "w")


async def put(
    database: Database,
    tenant: str,
    *,
    tasks: int = 1,
    priority: Priority = Priority.NORMAL,
    due_for: timedelta = timedelta(seconds=1),
    status: str = "ready",
) -> None:
    await database.fetch(READY, tenant, status, due_for, priority, tasks)


async def take(
    database: Database, worker: WorkerId, *, limit: int, weights: Mapping[str, float] | None = None
) -> list[Any]:
    """The rows of one claim."""
    claimed = await claims.claim(
        database, worker, limit=limit, shared_claims=5, weights=weights or {}
    )
    keys = [task.key for task in claimed]
    return list(await database.fetch("SELECT * FROM tasks WHERE id = ANY($1::bigint[])", keys))


async def turns(
    database: Database, worker: WorkerId, *, claims: int, limit: int, **more: Any
) -> Counter[str]:
    """How many tasks each tenant had taken in so many claims."""
    had = Counter[str]()
    for _ in range(claims):
        had.update(row["tenant"] for row in await take(database, worker, limit=limit, **more))
    return had


@pytest.mark.parametrize(
    ("urgent", "other"), [*combinations(Priority, 2)], ids=lambda p: p.name.lower()
)
async def test_a_more_urgent_task_has_its_head_start_and_no_more(
    database: Database, worker: WorkerId, urgent: Priority, other: Priority
) -> None:
    ahead = HEAD_START[urgent] - HEAD_START[other]
    second = timedelta(seconds=1)
    await put(database, "t", priority=other, due_for=ahead + 3 * second)
    await put(database, "t", priority=urgent, due_for=2 * second)
    await put(database, "t", priority=other, due_for=ahead + second)
    order = [(await take(database, worker, limit=1))[0]["priority"] for _ in range(3)]
    assert order == [other, urgent, other]


async def test_of_one_priority_the_task_that_is_due_for_longest_comes_first(
    database: Database, worker: WorkerId
) -> None:
    for minutes in (3, 9, 1, 7):
        await put(database, "t", due_for=timedelta(minutes=minutes))
    taken = [await take(database, worker, limit=1) for _ in range(4)]
    due = [row["run_at"] for (row,) in taken]
    assert due == sorted(due)


@pytest.mark.parametrize("limit", [1, 20])
async def test_tenants_take_turns_by_their_weights(
    database: Database, worker: WorkerId, limit: int
) -> None:
    for tenant in ("heavy", "light", "other"):
        await put(database, tenant, tasks=900)
    weights = {"heavy": 3.0, "light": 0.5}
    had = await turns(database, worker, claims=600 // limit, limit=limit, weights=weights)
    assert had.total() == 600
    assert had["heavy"] == pytest.approx(400, rel=0.15)
    assert had["other"] == pytest.approx(133, rel=0.25)
    assert had["light"] == pytest.approx(67, rel=0.35)


async def test_all_tenants_get_turns_where_a_claim_takes_fewer_tasks_than_there_are_tenants(
    database: Database, worker: WorkerId
) -> None:
    for number in range(30):
        await put(database, f"t{number:02}", tasks=60)
    had = await turns(database, worker, claims=300, limit=2)
    assert (len(had), had.total()) == (30, 600)
    assert min(had.values()) >= 5, had
    assert max(had.values()) <= 45, had


async def test_a_backlog_of_one_tenant_delays_the_task_of_another_by_a_few_turns(
    database: Database, worker: WorkerId
) -> None:
    await put(database, "loud", tasks=20_000, due_for=timedelta(hours=3), priority=Priority.HIGH)
    await put(database, "quiet", tasks=20, priority=Priority.LOW)
    had: Counter[str] = Counter()
    while had["quiet"] < 20:
        had += await turns(database, worker, claims=1, limit=4)
    assert had["loud"] <= 60, had


async def test_what_one_tenant_leaves_is_for_the_others(
    database: Database, worker: WorkerId
) -> None:
    await put(database, "a", tasks=2)
    await put(database, "b", tasks=50)
    had = Counter[str]()
    while len(rows := await take(database, worker, limit=40)):
        had.update(row["tenant"] for row in rows)
    assert had == {"a": 2, "b": 50}


async def test_what_waits_for_a_time_is_ready_when_that_has_come(
    database: Database, worker: WorkerId
) -> None:
    await put(database, "late", status="waiting", due_for=timedelta(seconds=5))
    await put(database, "soon", status="waiting", due_for=-timedelta(seconds=60))
    await database.fetch(
        "INSERT INTO tasks (task_id, status, run_at) VALUES ('x', 'waiting', 'infinity')"
    )
    wait = await claims.wake_due(database)
    assert wait is not None
    assert timedelta(seconds=50) < wait <= timedelta(seconds=60)
    assert [row["tenant"] for row in await take(database, worker, limit=5)] == ["late"]


async def test_what_is_given_back_with_a_delay_waits_for_it(
    database: Database, worker: WorkerId
) -> None:
    await put(database, "t")
    task = await claims.claim(database, worker, limit=1, shared_claims=5, weights={})
    await claims.release(database, worker, task, delay=timedelta(seconds=30))
    (row,) = await database.fetch("SELECT * FROM tasks")
    assert (row["status"], row["owner"], row["claims"]) == ("waiting", None, 1)
    assert await take(database, worker, limit=5) == []


async def test_the_task_that_came_first_is_claimed_first_though_it_heard_something(
    database: Database,
) -> None:
    feed = Feed(database)
    me = await workers.register(database, "w")
    await feed.task("first")
    await feed.task("second")
    await feed.event("first")
    (claimed,) = await claims.claim(database, me, limit=1, shared_claims=5)
    assert claimed.key == (await task_row(database, "first"))["id"]


@pytest.mark.parametrize("left", ["by-the-dead", "by-its-namesake", "by-one-that-stops"])
async def test_a_task_that_its_worker_left_keeps_its_place(database: Database, left: str) -> None:
    feed = Feed(database)
    await feed.task("first")
    me = await workers.register(database, "w")
    taken = await claims.claim(database, me, limit=1, shared_claims=5)
    await feed.task("second")
    match left:
        case "by-the-dead":
            now = datetime.now(UTC)
            assert await claims.reap(database, lease=timedelta(), until=now + HOUR) == 1
        case "by-its-namesake":
            await workers.register(database, "w")
        case _:
            await claims.release(database, me, taken, delay=None)
    other = await workers.register(database, "other")
    (claimed,) = await claims.claim(database, other, limit=1, shared_claims=5)
    assert claimed.key == taken[0].key
