"""Evidence of a real run: nothing is found in it, and what is planted into each source is."""

import sqlite3
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest_asyncio

from chaos.arena import Arena, Servers, Size, open_arena
from chaos.checker import check
from chaos.evidence import gather, reading
from chaos.fault import nothing_more
from chaos.fleet import running_forge
from chaos.kinds import BAD, CALLS, Message, messages_of
from chaos.round import quiet, work_left
from tests.fixtures.servers import KafkaServer, PostgresServer

IDS = {kind: f"{kind}-0000001" for kind in CALLS}


BAD_INPUT = Message(topic="tasks", kind=BAD, task_id=f"{BAD}-1", value=b"{")


@pytest_asyncio.fixture(loop_scope="session")
async def arena(
    kafka: KafkaServer, postgres: PostgresServer, database_template: str, tmp_path: Path
) -> AsyncIterator[Arena]:
    """Nothing is published but what a test adds."""
    async with running_forge() as forge:
        servers = Servers(kafka=kafka, postgres=postgres, template=database_template, forge=forge)
        size = Size(workers=1, per_second=0.0)
        async with open_arena(
            servers, tmp_path, size=size, environ={}, prepare=nothing_more
        ) as arena:
            arena.load.stop()
            yield arena


def plant(file: Path, sql: str, *values: object) -> None:
    with sqlite3.connect(file) as record:
        record.execute(sql, values)
    record.close()


async def test_a_clean_run_shows_nothing_and_what_is_planted_is_found(arena: Arena) -> None:
    for kind, task_id in IDS.items():
        arena.load.add(messages_of(kind, task_id, arena.dice))
    arena.load.add([BAD_INPUT])
    await arena.load.run()
    await quiet(arena)
    assert [str(finding) for finding in check(await gather(arena))] == []

    turns, sides, flaky, doubles = (IDS[kind] for kind in ("turns", "sides", "flaky", "doubles"))
    arena.load.book.append(replace(arena.load.book[0], offset=10**9))
    sql = "DELETE FROM steps s USING tasks t WHERE s.task = t.id AND t.task_id = $1 AND s.seq = 2"
    await arena.rows(sql, turns)
    await arena.rows("UPDATE tasks SET status = 'failed' WHERE task_id = $1", doubles)
    await arena.rows("INSERT INTO outbox (task, seq) SELECT id, 1 FROM tasks LIMIT 1")
    effect = "INSERT INTO effects VALUES (?, ?, 'crm', 0)"
    plant(arena.folder / "agents.db", effect, f"{sides}/2/1", sides)
    prompt = "INSERT INTO prompts VALUES (?, 0, ?)"
    plant(arena.folder / "llm.db", prompt, flaky, time.time())
    found = {(finding.invariant, finding.task_id) for finding in check(await gather(arena))}

    assert {("I2", turns), ("I3", sides), ("I4", flaky), ("I6", doubles)} <= found
    assert {invariant for invariant, _ in found} >= {"I1", "I2", "I3", "I4", "I5", "I6"}


async def test_a_bad_input_that_nobody_has_read_yet_is_work_left(arena: Arena) -> None:
    (worker,) = arena.fleet.running()
    await arena.fleet.kill(worker)
    arena.load.add([BAD_INPUT])
    await arena.load.run()
    async with reading(arena) as consumer:
        assert await work_left(arena, consumer) == 1
