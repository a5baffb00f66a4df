"""T2 and T3: who may write, what a second sending changes, and whose turn it is."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import pytest_asyncio

from orchestrator.domain.ids import Epoch, Seq, TaskKey, WorkerId
from orchestrator.domain.json import JsonObject
from orchestrator.domain.step import EventApplied, Step
from orchestrator.domain.task import TaskStatus
from orchestrator.engine.journal import Journal, Poisoned
from orchestrator.store import claims, journal, workers
from orchestrator.store.database import Database, DatabaseOptions, Row
from orchestrator.store.ingest import Claimed
from orchestrator.store.journal import Entry, Rest, Written
from tests.fakes.workers import Feed, kinds, task_row

WAITING = Rest(status=TaskStatus.WAITING)
COMPLETED = Rest(status=TaskStatus.COMPLETED)


@pytest_asyncio.fixture(loop_scope="session")
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(DatabaseOptions(url=database_url, pool_size=6))
    await database.open()
    yield database
    await database.close()


@pytest_asyncio.fixture(loop_scope="session")
async def worker(database: Database) -> WorkerId:
    return await workers.register(database, "w")


@pytest_asyncio.fixture(loop_scope="session")
async def feed(database: Database) -> Feed:
    return Feed(database)


async def claim(
    database: Database, worker: WorkerId, *, limit: int = 1000, shared_claims: int = 5
) -> list[Claimed]:
    return await claims.claim(database, worker, limit=limit, shared_claims=shared_claims)


async def names(database: Database, claimed: Sequence[Claimed]) -> list[str]:
    keys = [c.key for c in claimed]
    rows = await database.fetch("SELECT task_id FROM tasks WHERE id = ANY($1)", keys)
    return sorted(r["task_id"] for r in rows)


async def claimed_task(database: Database, feed: Feed, worker: WorkerId) -> Claimed:
    await feed.task("t")
    return (await claim(database, worker))[0]


def entry(
    task: Claimed,
    *changes: JsonObject | None,
    after: int = 1,
    rest: Rest | None = None,
    seen: int = 0,
) -> Entry:
    """One event step for each change, numbered from `after` + 1 on."""
    steps = tuple(
        Step(seq=Seq(seq), body=EventApplied(event_type="data"), change=change)
        for seq, change in enumerate(changes, after + 1)
    )
    seq = Seq(after + len(steps))
    return Entry(key=task.key, epoch=task.epoch, seq=seq, steps=steps, rest=rest, seen=seen)


async def outbox(database: Database) -> list[int]:
    """The steps on their way to Kafka, in their order."""
    rows: Sequence[Row] = await database.fetch("SELECT seq FROM outbox ORDER BY id")
    return [r["seq"] for r in rows]


async def test_entry_of_an_older_epoch_writes_nothing(
    database: Database, feed: Feed, worker: WorkerId
) -> None:
    task = await claimed_task(database, feed, worker)
    before = await task_row(database, "t")
    old = Claimed(key=task.key, epoch=Epoch(task.epoch - 1))
    assert await journal.journal(database, [entry(old, {"a": 1}, rest=COMPLETED)]) == {}
    assert dict(await task_row(database, "t")) == dict(before)
    assert (await kinds(database, "t"), await outbox(database)) == (["accepted"], [1])


async def test_entry_that_is_sent_twice_is_written_once(
    database: Database, feed: Feed, worker: WorkerId
) -> None:
    task = await claimed_task(database, feed, worker)
    written = entry(task, None, None, rest=WAITING)
    first = await journal.journal(database, [written])
    assert await journal.journal(database, [written]) == first
    assert first == {task.key: Written(status=TaskStatus.WAITING, wake=0)}
    assert await kinds(database, "t") == ["accepted", "event", "event"]
    assert await outbox(database) == [1, 2, 3]


async def test_rest_gives_the_task_back(database: Database, feed: Feed, worker: WorkerId) -> None:
    task = await claimed_task(database, feed, worker)
    await journal.journal(database, [entry(task, rest=Rest(status=TaskStatus.WAITING, reason="x"))])
    row = await task_row(database, "t")
    assert (row["status"], row["owner"], row["reason"], row["claims"]) == ("waiting", None, "x", 0)
    assert await claim(database, worker) == []


async def test_rest_of_a_task_with_an_unseen_message_leaves_it_runnable(
    database: Database, feed: Feed, worker: WorkerId
) -> None:
    task = await claimed_task(database, feed, worker)
    await feed.event("t")
    written = await journal.journal(database, [entry(task, rest=WAITING, seen=0)])
    assert written[task.key].status is TaskStatus.READY
    again = (await claim(database, worker))[0]
    written = await journal.journal(database, [entry(again, rest=WAITING, seen=1)])
    assert written[task.key].status is TaskStatus.WAITING


async def test_task_that_comes_to_rest_again_and_again_stays_claimable(
    database: Database, feed: Feed, worker: WorkerId
) -> None:
    task = await claimed_task(database, feed, worker)
    due = Rest(status=TaskStatus.WAITING, run_at=(await task_row(database, "t"))["run_at"])
    for _ in range(8):
        await journal.journal(database, [entry(task, rest=due)])
        await claims.wake_due(database)
        (task,) = await claim(database, worker)


async def test_one_bad_row_fails_its_task_and_not_the_511_beside_it(
    database: Database, feed: Feed, worker: WorkerId
) -> None:
    await feed.send([feed.new_task(f"t-{n:03}") for n in range(512)])
    tasks = await claim(database, worker)
    bad = (await task_row(database, "t-300"))["id"]
    group = Journal(lambda entries: journal.journal(database, entries), written=lambda: None)
    running = asyncio.create_task(group.run())
    answers = await asyncio.gather(
        *[group.commit(entry(t, {"a": "\0" if t.key == bad else "x"})) for t in tasks],
        return_exceptions=True,
    )
    running.cancel()
    failed = [t.key for t, a in zip(tasks, answers, strict=True) if isinstance(a, Poisoned)]
    assert failed == [bad]
    rows = await database.fetch("SELECT DISTINCT task FROM steps WHERE seq = 2")
    assert {r["task"] for r in rows} == {t.key for t in tasks} - {bad}


async def test_task_is_not_claimed_before_its_time(
    database: Database, feed: Feed, worker: WorkerId
) -> None:
    await feed.send([feed.new_task("now"), feed.new_task("later")])
    await database.fetch("UPDATE tasks SET run_at = now() + interval '1 h' WHERE task_id = 'later'")
    assert await names(database, await claim(database, worker)) == ["now"]


async def test_two_workers_never_claim_the_same_task(database: Database, feed: Feed) -> None:
    await feed.send([feed.new_task(f"t-{n}") for n in range(200)])
    ids = [await workers.register(database, f"w-{n}") for n in range(4)]
    got: list[TaskKey] = []
    while len(got) < 200:
        rounds = await asyncio.gather(*[claim(database, w, limit=7) for w in ids])
        got += [c.key for claimed in rounds for c in claimed]
    assert len(set(got)) == len(got) == 200
    assert {r["epoch"] for r in await database.fetch("SELECT epoch FROM tasks")} == {1}


async def test_released_tasks_have_a_new_epoch_and_are_runnable_when_they_should_be(
    database: Database, feed: Feed, worker: WorkerId
) -> None:
    task = await claimed_task(database, feed, worker)
    other = await workers.register(database, "other")
    assert await claims.release(database, other, [task], delay=timedelta()) == 0
    assert await claims.release(database, worker, [task], delay=timedelta(hours=1)) == 1
    row = await task_row(database, "t")
    assert (row["status"], row["epoch"], row["claims"]) == ("waiting", task.epoch + 1, 1)
    assert await claim(database, worker) == []


async def test_ingest_and_journal_lock_the_same_tasks_without_a_deadlock(
    database: Database, feed: Feed, worker: WorkerId
) -> None:
    await feed.send([feed.new_task(f"t-{n:02}") for n in range(40)])
    tasks = await claim(database, worker)
    backwards = [f"t-{n:02}" for n in reversed(range(40))]

    async def write_steps() -> None:
        for seq in range(1, 30):
            order = tasks if seq % 2 else tasks[::-1]
            await journal.journal(database, [entry(t, {"n": seq}, after=seq) for t in order])

    async def take_events() -> None:
        for _ in range(30):
            await feed.send([feed.new_event(name) for name in backwards])

    async with asyncio.timeout(30):
        await asyncio.gather(write_steps(), take_events())
    rows = await database.fetch("SELECT DISTINCT seq, wake FROM tasks")
    assert [(r["seq"], r["wake"]) for r in rows] == [(30, 30)]


async def test_only_the_tasks_own_messages_are_marked_as_applied(
    database: Database, feed: Feed, worker: WorkerId
) -> None:
    """After lost commits another task's message may have the number that a worker remembers."""
    await feed.task("t")
    (mine,) = await claims.claim(database, worker, limit=1, shared_claims=5)
    await feed.task("u")
    await feed.event("u", "cancel")
    sql = "SELECT id, seq FROM inbox WHERE event_type = 'cancel'"
    ((theirs, _),) = await database.fetch(sql)
    step = Step(seq=Seq(2), body=EventApplied(event_type="data"))
    entry = Entry(
        key=mine.key, epoch=mine.epoch, seq=step.seq, steps=(step,), applied=((theirs, step.seq),)
    )
    await journal.journal(database, [entry])
    assert [tuple(row) for row in await database.fetch(sql)] == [(theirs, None)]
