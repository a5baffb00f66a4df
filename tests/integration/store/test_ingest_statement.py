"""T1: what a batch does to tasks in each of their states, and which part of it counts."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import pytest
import pytest_asyncio

from orchestrator.domain.ids import WorkerId
from orchestrator.store import loading, positions, workers
from orchestrator.store.database import Database, DatabaseOptions, Row
from orchestrator.store.ingest import Batch, Ingested, NewEvent, NewTask, ingest
from orchestrator.store.positions import Position
from tests.fakes.workers import CLUSTER, Feed, bodies, kinds, task_row

FINAL = ("completed", "failed", "cancelled", "quarantined")


@pytest_asyncio.fixture(loop_scope="session")
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(DatabaseOptions(url=database_url, pool_size=4))
    await database.open()
    yield database
    await database.close()


@pytest_asyncio.fixture(loop_scope="session")
async def worker(database: Database) -> WorkerId:
    await positions.begin(database, CLUSTER, {("tasks", 0): Position(0), ("tasks", 1): Position(0)})
    return await workers.register(database, "w")


@pytest_asyncio.fixture(loop_scope="session")
async def feed(database: Database) -> Feed:
    return Feed(database)


async def write(
    feeds: Sequence[Feed],
    messages: Sequence[NewTask | NewEvent],
    *,
    worker: WorkerId,
    room: int = 0,
) -> Ingested:
    """One batch of these partitions; their positions move by one each."""
    done = await ingest(
        feeds[0].database,
        Batch(
            cluster_id=CLUSTER,
            advances=tuple(f.advance() for f in feeds),
            messages=tuple(messages),
        ),
        worker=worker,
        room=room,
        expected_for=timedelta(hours=1),
        shared_claims=5,
    )
    for f in feeds:
        f.offset += ("tasks", f.partition) in done.moved
    return done


async def inbox(database: Database) -> Sequence[Row]:
    return await database.fetch("SELECT * FROM inbox ORDER BY id")


async def put(database: Database, status: str, *, owner: int | None = None) -> None:
    """Brings the only task into this status."""
    await database.fetch("UPDATE tasks SET status = $1, owner = $2", status, owner)


async def test_new_task_is_claimed_where_there_is_room(
    database: Database, feed: Feed, worker: WorkerId
) -> None:
    done = await write([feed], [feed.new_task("t", tenant="acme")], worker=worker, room=1)
    row = await task_row(database, "t")
    assert (row["status"], row["owner"], row["epoch"], row["claims"]) == ("running", worker, 1, 1)
    assert [c.epoch for c in done.claimed] == [1]
    assert (await kinds(database, "t"), row["seq"]) == (["accepted"], 1)
    assert [(r["task"], r["seq"]) for r in await database.fetch("SELECT * FROM outbox")] == [
        (row["id"], 1)
    ]
    assert [(r["event_type"], r["seq"]) for r in await inbox(database)] == [("task", 1)]


async def test_new_task_is_left_ready_where_there_is_none(
    database: Database, feed: Feed, worker: WorkerId
) -> None:
    done = await write([feed], [feed.new_task("t")], worker=worker)
    row = await task_row(database, "t")
    assert (row["status"], row["owner"], row["claims"]) == ("ready", None, 0)
    assert (done.claimed, done.left_ready) == ((), 1)


async def test_room_is_filled_in_the_order_of_the_batch(
    database: Database, feed: Feed, worker: WorkerId
) -> None:
    names = ["c", "a", "e", "b", "d"]
    done = await write([feed], [feed.new_task(n) for n in names], worker=worker, room=2)
    assert (len(done.claimed), done.left_ready) == (2, 3)
    assert [(await task_row(database, n))["status"] for n in names] == ["running"] * 2 + [
        "ready"
    ] * 3


async def test_event_before_its_task_is_kept_for_it(
    database: Database, feed: Feed, worker: WorkerId
) -> None:
    done = await write([feed], [feed.new_event("t", payload={"a": 1})], worker=worker, room=1)
    row = await task_row(database, "t")
    assert (row["status"], row["seq"], row["wake"]) == ("expected", 0, 1)
    assert (done.claimed, done.left_ready) == ((), 0)
    await write([feed], [feed.new_event("t", payload={"b": 2})], worker=worker, room=1)
    assert (await task_row(database, "t"))["run_at"] == row["run_at"]


@pytest.mark.parametrize("room", [0, 1])
async def test_expected_task_becomes_the_task_that_comes(
    database: Database, feed: Feed, worker: WorkerId, room: int
) -> None:
    await write([feed], [feed.new_event("t")], worker=worker)
    task = feed.new_task("t", tenant="acme", required=["a"], priority=0)
    await write([feed], [task], worker=worker, room=room)
    row = await task_row(database, "t")
    assert row["status"] == ("running" if room else "ready")
    assert (row["tenant"], row["priority"], row["description"]) == ("acme", 0, "the task t")
    assert (row["seq"], row["claims"], row["epoch"]) == (1, room, room)
    assert row["context"]["required_fields"] == ["a"]
    assert [(r["event_type"], r["seq"]) for r in await inbox(database)] == [
        ("data", None),
        ("task", 1),
    ]


async def test_event_wakes_a_waiting_task(database: Database, feed: Feed, worker: WorkerId) -> None:
    await write([feed], [feed.new_task("t")], worker=worker)
    await database.fetch("UPDATE tasks SET status = 'waiting', run_at = 'infinity', reason = 'x'")
    done = await write([feed], [feed.new_event("t")], worker=worker)
    row = await task_row(database, "t")
    assert (row["status"], row["wake"], row["reason"], done.left_ready) == ("ready", 1, None, 1)
    assert row["run_at"] == row["updated_at"]
    await put(database, "waiting")
    done = await write([feed], [feed.new_event("t")], worker=worker, room=1)
    row = await task_row(database, "t")
    assert (row["status"], row["wake"], row["owner"], row["epoch"]) == ("running", 2, worker, 1)
    assert [c.key for c in done.claimed] == [row["id"]]


async def test_event_claims_a_ready_task_where_there_is_room(
    database: Database, feed: Feed, worker: WorkerId
) -> None:
    await write([feed], [feed.new_task("t")], worker=worker)
    await write([feed], [feed.new_event("t")], worker=worker, room=1)
    row = await task_row(database, "t")
    assert (row["status"], row["owner"], row["epoch"]) == ("running", worker, 1)


async def test_event_to_a_running_task_leaves_it_with_its_owner(
    database: Database, feed: Feed, worker: WorkerId
) -> None:
    await write([feed], [feed.new_task("t")], worker=worker, room=1)
    other = await workers.register(database, "other")
    done = await write([feed], [feed.new_event("t")], worker=other, room=5)
    row = await task_row(database, "t")
    assert (row["status"], row["owner"], row["epoch"], row["wake"]) == ("running", worker, 1, 1)
    assert (done.claimed, done.woken) == ((), ())


@pytest.mark.parametrize("event_type", ["cancel", "pause", "resume", "agent_result"])
async def test_event_that_cannot_wait_is_told_to_who_runs_the_task(
    database: Database, feed: Feed, worker: WorkerId, event_type: str
) -> None:
    await write([feed], [feed.new_task("t")], worker=worker, room=1)
    done = await write([feed], [feed.new_event("t", event_type)], worker=worker, room=5)
    assert done.woken == ((await task_row(database, "t"))["id"],)
    assert await loading.urgent(database, worker) == [*done.woken]


@pytest.mark.parametrize("status", FINAL)
async def test_event_to_a_task_that_is_over_is_kept_and_moves_nothing(
    database: Database, feed: Feed, worker: WorkerId, status: str
) -> None:
    await write([feed], [feed.new_task("t")], worker=worker)
    await put(database, status)
    done = await write([feed], [feed.new_event("t")], worker=worker, room=5)
    row = await task_row(database, "t")
    assert (row["status"], row["owner"], row["epoch"]) == (status, None, 0)
    assert (done.claimed, done.woken, done.left_ready) == ((), (), 0)
    assert len(await inbox(database)) == 2


async def test_second_message_of_a_task_changes_nothing(
    database: Database, feed: Feed, worker: WorkerId
) -> None:
    await write([feed], [feed.new_task("t"), feed.new_task("t")], worker=worker)
    await put(database, "waiting")
    before = dict(await task_row(database, "t"))
    again = feed.new_task("t", description="another", priority=0)
    done = await write([feed], [again], worker=worker, room=5)
    after = dict(await task_row(database, "t"))
    counted = {"updated_at": 0, "bytes": 0}
    assert after | counted == before | counted
    assert (set(done.moved), done.claimed) == ({("tasks", 0)}, ())
    assert (len(await inbox(database)), len(await bodies(database, "t"))) == (1, 1)


async def test_task_and_its_events_may_share_a_batch(
    database: Database, feed: Feed, worker: WorkerId
) -> None:
    events = [feed.new_event("t", payload={"n": n}) for n in range(3)]
    await write([feed], [events[0], feed.new_task("t"), *events[1:]], worker=worker, room=1)
    assert [(r["event_type"], r["payload"]) for r in await inbox(database)] == [
        ("data", {"n": 0}),
        ("task", {}),
        ("data", {"n": 1}),
        ("data", {"n": 2}),
    ]
    row = await task_row(database, "t")
    assert (row["status"], row["wake"]) == ("running", 3)


async def test_partition_with_a_newer_owner_writes_nothing_beside_one_that_counts(
    database: Database, feed: Feed, worker: WorkerId
) -> None:
    mine, lost = feed, Feed(database, partition=1)
    lost.offset = 7
    done = await write(
        [mine, lost], [mine.new_task("a"), lost.new_task("b")], worker=worker, room=5
    )
    assert done.moved == {("tasks", 0)}
    assert [r["task_id"] for r in await database.fetch("SELECT task_id FROM tasks")] == ["a"]
    assert len(done.claimed) == len(await inbox(database)) == 1
    places = await positions.read(database, CLUSTER, [("tasks", 0), ("tasks", 1)])
    assert places == {("tasks", 0): Position(1), ("tasks", 1): Position(0)}


async def test_batch_that_is_sent_twice_is_written_once(
    database: Database, feed: Feed, worker: WorkerId
) -> None:
    messages: list[NewTask | NewEvent] = [feed.new_task("t"), feed.new_event("t")]
    await write([feed], messages, worker=worker, room=1)
    feed.offset = 0
    done = await write([feed], messages, worker=worker, room=1)
    assert (done.moved, done.claimed) == (frozenset(), ())
    assert (len(await inbox(database)), (await task_row(database, "t"))["wake"]) == (2, 1)


async def test_event_id_that_was_seen_is_not_kept_again(
    database: Database, feed: Feed, worker: WorkerId
) -> None:
    events = [feed.new_event(t, event_id="e") for t in ("t", "t", "other")]
    await write([feed], [feed.new_task("t"), *events], worker=worker)
    assert [r["event_id"] for r in await inbox(database)] == [None, "e", "e"]


async def test_event_does_not_claim_a_task_that_kills_its_workers(
    database: Database, feed: Feed, worker: WorkerId
) -> None:
    await write([feed], [feed.new_task("t")], worker=worker)
    await database.fetch("UPDATE tasks SET claims = 5")
    done = await write([feed], [feed.new_event("t")], worker=worker, room=5)
    assert (done.claimed, (await task_row(database, "t"))["status"]) == ((), "ready")
