"""`orchestrator outbox`: what Kafka refused is listed, told by doctor, and sent again."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest_asyncio

from orchestrator.store import outbox
from orchestrator.store.database import Database, DatabaseOptions
from tests.integration.cli.command import called, orchestrator, told

ADD = "INSERT INTO outbox (topic, key, value) VALUES ($1, NULL, 'x')"


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(DatabaseOptions(url=database_url, pool_size=2))
    await database.open()
    for topic in ("d", "d", "e"):
        await database.fetch(ADD, topic)
    for row in await outbox.next_rows(database, 10):
        assert isinstance(row, outbox.Letter)
        await outbox.set_aside(database, {row.id: "INVALID_RECORD"}, topic=row.topic)
    yield database
    await database.close()


async def test_what_kafka_refused_is_listed_and_sent_again(
    database: Database, database_url: str
) -> None:
    environ = {"DATABASE_URL": database_url}
    found = await told(environ, "outbox", "list")
    assert [(e["topic"], e["messages"]) for e in found] == [("d", 2), ("e", 1)]
    assert await told(environ, "outbox", "retry", "--topic", "d") == {"messages": 2}
    assert "INVALID_RECORD" in (await called(environ, "outbox", "list")).stdout
    assert "1 messages are sent again" in (await called(environ, "outbox", "retry")).stderr
    assert [row.id for row in await outbox.next_rows(database, 10)] == [1, 2, 3]


async def test_doctor_tells_what_is_set_aside(database: Database, database_url: str) -> None:
    assert await outbox.count_refused(database) == 3
    environ = {"DATABASE_URL": database_url, "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    done = await asyncio.to_thread(orchestrator, "doctor", "--json", environ=environ)
    told = [f for f in json.loads(done.stdout) if f["name"] == "outbox"]
    assert [f["state"] for f in told] == ["warning"] * 2
    assert told[0]["says"] == "topic 'd' refused 2 messages, which are set aside: INVALID_RECORD"
    assert "orchestrator outbox retry" in told[0]["advice"]
