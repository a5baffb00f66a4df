"""The statements of release 0.1.0, word for word, on today's schema and beside today's code."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest_asyncio

from orchestrator.domain.step import Completed
from orchestrator.domain.task import TaskStatus
from orchestrator.store import claims, loading, outbox, workers
from orchestrator.store.database import Database, DatabaseOptions, Row
from orchestrator.store.journal import Rest
from tests.integration.store.journaled import Journal

SQL = Path(__file__).parents[2] / "golden" / "0.1.0" / "sql"
LEASE, HOUR = timedelta(seconds=10), timedelta(hours=1)


class LastRelease:
    """A worker of it: one partition, one statement at a time."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.id = 0
        self.offset = 0

    async def ask(self, statement: str, *args: object) -> list[Row]:
        sql = (SQL / f"{statement}.sql").read_text()
        return list(await self.database.fetch(sql, *args))

    async def join(self) -> None:
        await self.ask("workers.register", "old")
        (row,) = await self.ask("workers.insert", "old")
        self.id = row["id"]
        assert await self.ask("workers.heartbeat", self.id)
        await self.ask("positions.begin", "c", ["old"], [0], [0])

    async def ingest(self, *messages: dict[str, Any], room: int = 0) -> list[Row]:
        """`task_id`, and `task` (its document) or `event_type`."""
        at, self.offset = self.offset, self.offset + len(messages)
        rows = [
            (
                "old", 0, at + n, m["task_id"], m.get("event_type", "task"), m.get("event_id"),
                None if "task" in m else "{}", None, None, m.get("task"), b"k", b"v", "[]",
            )
            for n, m in enumerate(messages)
        ]  # fmt: skip
        columns = [list(column) for column in zip(*rows, strict=True)]
        dead: list[list[object]] = [["old"], [0], ["dead-letters"], [b"k"], [b"v"], ["[]"]]
        return await self.ask(
            "ingest.ingest", "c", ["old"], [0], [at], [self.offset], *columns, *dead,
            room, HOUR, self.id, 5,
        )  # fmt: skip

    async def journal(self, key: int, epoch: int, *, seq: int, status: str | None) -> list[Row]:
        """One step `event`, and a rest."""
        return await self.ask(
            "journal.journal", [key], [epoch], [seq], ['{"required_fields": []}'], [7], [0],
            [status], [None], [None], [key], [seq], ["event"], ['{"event_type": "data"}'], [None],
            [], [], [], [seq - 1],
        )  # fmt: skip


def task(task_id: str) -> dict[str, Any]:
    context = {"required_fields": [], "current_state": "accepted"}
    document = {"description": task_id, "context": context, "source": "old/0/0"}
    return {"task_id": task_id, "task": orjson.dumps(document).decode()}


@pytest_asyncio.fixture(loop_scope="session")
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(DatabaseOptions(url=database_url, pool_size=2))
    await database.open()
    yield database
    await database.close()


@pytest_asyncio.fixture(loop_scope="session")
async def old(database: Database) -> LastRelease:
    old = LastRelease(database)
    await old.join()
    return old


async def test_last_release_takes_a_task_in_runs_it_and_publishes_it(old: LastRelease) -> None:
    moved, mine = await old.ingest(task("t"), room=1)
    assert (moved["what"], mine["what"]) == ("moved", "mine")

    (loaded,) = await old.ask("claims.load", [mine["id"]], old.id)
    assert orjson.loads(orjson.dumps(loaded["steps"]))[0][1] == "accepted"
    (written,) = await old.journal(mine["id"], mine["epoch"], seq=2, status="completed")
    assert written["status"] == "completed"
    rows = await old.ask("outbox.next", 10)
    assert [r["seq"] for r in rows if r["task_id"] == "t"] == [1, 2]
    await old.ask("outbox.delete", [r["id"] for r in rows])
    assert await old.ask("outbox.next", 10) == []


async def test_last_release_claims_and_gives_back_what_this_one_took_in(old: LastRelease) -> None:
    await Journal(old.database).accept("t", is_claimed=False)

    (claimed,) = await old.ask("claims.claim", old.id, 10, 5)
    assert [r["id"] for r in await old.ask("claims.owned", old.id)] == [claimed["id"]]
    (row,) = await old.ask("claims.unread", claimed["id"])
    assert row["inbox"] is None
    assert await old.ask("claims.release", old.id, [claimed["id"]], [claimed["epoch"]], None)
    assert (await old.ask("claims.count_runnable"))[0]["tasks"] == 1


async def test_this_release_goes_on_with_what_the_last_one_began(old: LastRelease) -> None:
    _, mine = await old.ingest(task("t"), room=1)
    await old.journal(mine["id"], mine["epoch"], seq=2, status="waiting")
    _, woken = await old.ingest({"task_id": "t", "event_type": "data", "event_id": "e"})
    assert woken["what"] == "ready"

    new = await workers.register(old.database, "new")
    (claimed,) = await claims.claim(old.database, new, limit=10, shared_claims=5)
    (loaded,) = await loading.load(old.database, new, [claimed.key])

    assert isinstance(loaded, loading.Loaded)
    assert [s.body.kind for s in loaded.snapshot.steps] == ["accepted", "event"]
    assert [m.event_type for m in loaded.inbox] == ["data"]
    assert await old.journal(mine["id"], mine["epoch"], seq=3, status=None) == []


async def test_last_release_looks_after_what_is_left_lying(old: LastRelease) -> None:
    await old.ingest(task("stranded"), room=1)
    await old.ingest(task("looping"), {"task_id": "nobody", "event_type": "data"})
    ours = old.database
    await ours.fetch("UPDATE tasks SET claims = 5 WHERE task_id = 'looping'")
    await ours.fetch("UPDATE tasks SET run_at = now() WHERE task_id = 'nobody'")
    await ours.fetch("UPDATE workers SET heartbeat_at = now() - interval '1 hour'")

    assert len(await old.ask("claims.reap", LEASE)) == 1
    assert len(await old.ask("workers.forget", LEASE)) == 1
    assert len(await old.ask("claims.quarantine", 5, "dead-letters")) == 1
    assert len(await old.ask("claims.expire", "dead-letters")) == 1
    assert (await old.ask("outbox.backlog"))[0]["rows"] > 0


async def test_last_release_reads_what_this_one_wrote(old: LastRelease) -> None:
    tasks = Journal(old.database)
    mine = await tasks.accept("t")
    assert mine is not None
    await tasks.write(mine, (Completed(), None), rest=Rest(status=TaskStatus.COMPLETED))

    assert await old.ask("workers.lead", "relay", old.id, LEASE)
    told = [r["kind"] for r in await old.ask("outbox.next", 10)]
    assert told == ["accepted", "completed"]
    assert [type(r).__name__ for r in await outbox.next_rows(old.database, 10)] == [
        "StepUpdate",
        "StepUpdate",
    ]
    await old.ask("workers.leave", old.id)
