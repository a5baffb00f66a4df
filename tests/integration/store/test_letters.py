"""Dead letters that PostgreSQL writes: what they say of the message and of what became of it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest_asyncio

from orchestrator.domain.ids import WorkerId
from orchestrator.store import claims, operations, upkeep
from orchestrator.store.database import Database, DatabaseOptions
from orchestrator.store.outbox import Letter, delete, next_rows
from orchestrator.store.replays import count_replay, replays_of_messages
from orchestrator.store.upkeep import EXPIRE
from tests.fakes.bus import until
from tests.fakes.workers import Feed, task_row


@pytest_asyncio.fixture(loop_scope="session")
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(DatabaseOptions(url=database_url, pool_size=2))
    await database.open()
    yield database
    await database.close()


async def letter_headers(database: Database) -> dict[str, str]:
    """The headers of the one letter that is on its way; it is taken off."""
    rows = await next_rows(database, 100)
    await delete(database, [row.id for row in rows])
    (letter,) = [row for row in rows if isinstance(row, Letter)]
    return dict(letter.headers)


async def test_a_replayed_event_without_a_task_counts_its_replays(database: Database) -> None:
    feed = Feed(database)
    ours = (("dlq.replays", "2"), ("dlq.replay_of", "a1"))
    headers = (*ours, ("dlq.first_seen", "2026-01-31T12:00:00Z"), ("tag", "x"))
    event = feed.new_event("nobody")
    sent_again = replace(event, origin=replace(event.origin, headers=headers))
    await feed.send([sent_again])
    await database.fetch("UPDATE tasks SET run_at = now()")
    assert await upkeep.expire_expected(database, dead_letters="dead") == 1
    found = await letter_headers(database)
    assert (found["dlq.replays"], found["dlq.first_seen"]) == ("2", "2026-01-31T12:00:00Z")
    assert found["dlq.replay_of"] == "a1"
    assert [n for n in found if n.startswith("dlq.original.header.")] == ["dlq.original.header.tag"]


async def test_a_task_that_was_sent_back_to_work_says_how_often(database: Database) -> None:
    await Feed(database).task("t")
    for replays in ("0", "1"):
        for _ in range(2):
            (claimed,) = await claims.claim(database, WorkerId(7), limit=1, shared_claims=5)
            await claims.release(database, WorkerId(7), [claimed], delay=timedelta())
        assert await upkeep.quarantine(database, max_claims=2, dead_letters="dead") == 1
        assert (await letter_headers(database))["dlq.replays"] == replays
        key = (await task_row(database, "t"))["task_id"]
        await operations.retry(database, key)


async def test_steps_that_a_fork_shares_with_its_origin_are_no_replays_of_it(
    database: Database,
) -> None:
    await Feed(database).task("t")
    # As `tasks fork` copies them: without an epoch.
    await database.fetch(
        "INSERT INTO steps (task, seq, kind, body, epoch)"
        " SELECT id, 2, 'retried', '{}', 0 FROM tasks WHERE task_id = 't'"
    )
    await database.fetch("UPDATE tasks SET seq = 2, claims = 2 WHERE task_id = 't'")
    assert await upkeep.quarantine(database, max_claims=2, dead_letters="dead") == 1
    assert (await letter_headers(database))["dlq.replays"] == "0"


async def test_of_many_commands_at_once_no_more_send_a_letter_again_than_may(
    database: Database,
) -> None:
    counts = [count_replay(database, "a1", known=1, most=3) for _ in range(7)]
    counted = [number for number in await asyncio.gather(*counts) if number is not None]
    assert sorted(counted) == [2, 3]
    assert await count_replay(database, "a1", known=0, most=None) == 4
    assert await replays_of_messages(database, ["a1", "a2"]) == {"a1": 4}


async def test_an_event_that_comes_while_its_task_expires_is_not_lost(
    database: Database, database_url: str
) -> None:
    """It comes after the statement began, and before the statement locks the task."""
    feed = Feed(database)
    await feed.send([feed.new_event("nobody")])
    await database.fetch("UPDATE tasks SET run_at = now()")
    gate = "(SELECT pg_advisory_xact_lock_shared(1)) AS gate, tasks WHERE status = 'expected'"
    slow = EXPIRE.replace("tasks WHERE status = 'expected'", gate).replace(
        "FOR UPDATE SKIP", "FOR UPDATE OF tasks SKIP"
    )
    keeper = Database(DatabaseOptions(url=database_url, pool_size=1))
    await keeper.open()
    await keeper.fetch("SELECT pg_advisory_lock(1)")
    expiring = asyncio.create_task(database.fetch(slow, "dead"))
    await until(partial(waits_at_the_gate, database))
    await feed.send([feed.new_event("nobody")])
    await keeper.close()

    assert await expiring == []
    assert await upkeep.expire_expected(database, dead_letters="dead") == 1
    rows = await next_rows(database, 100)
    assert len([row for row in rows if isinstance(row, Letter)]) == 2


async def waits_at_the_gate(database: Database) -> bool:
    asked = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    return bool(await database.fetch(asked))


async def test_rows_on_their_way_are_read_up_to_a_size(database: Database) -> None:
    await database.fetch(
        "INSERT INTO outbox (topic, value) SELECT 'dead', repeat('x', 1000)::bytea "
        "FROM generate_series(1, 5)"
    )
    assert len(await next_rows(database, 100)) == 5
    assert len(await next_rows(database, 100, max_bytes=1500)) == 2
    assert len(await next_rows(database, 100, max_bytes=1)) == 1
    assert [row.id for row in await next_rows(database, 100, max_bytes=2500)] == [1, 2, 3]
