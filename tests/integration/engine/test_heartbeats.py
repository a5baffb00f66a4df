"""One connection that hears nothing, or many busy ones, cost no worker its lease."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import pytest_asyncio

from orchestrator.engine.worker import Worker
from orchestrator.store.database import Database, Row, with_reserve
from orchestrator.store.workers import HEARTBEAT
from tests.fakes.bus import until
from tests.fakes.scripted_caller import ScriptedCaller
from tests.fakes.scripted_planner import ScriptedPlanner
from tests.fakes.workers import running_worker

POOL = 4


class SilentOnce(Database):
    """A database of which one connection was cut off: the next heartbeat gets no answer."""

    def __init__(self, database: Database) -> None:
        super().__init__(database._options)
        self.is_silent = False
        self.heard_nothing = 0

    async def fetch(self, sql: str, *args: Any) -> Sequence[Row]:
        if sql == HEARTBEAT and self.is_silent:
            self.is_silent = False
            self.heard_nothing += 1
            await asyncio.Event().wait()
        return await super().fetch(sql, *args)


async def stays_held(worker: Worker, *, seconds: float) -> None:
    end = time.monotonic() + seconds

    def is_over() -> bool:
        assert worker.lease.is_held()
        return time.monotonic() > end

    await until(is_over, seconds=seconds + 5)


@pytest_asyncio.fixture(loop_scope="session")
async def silent(database: Database) -> AsyncIterator[SilentOnce]:
    silent = SilentOnce(database)
    await silent.open()
    yield silent
    await silent.close()


@pytest_asyncio.fixture(loop_scope="session")
async def reserved(database: Database) -> AsyncIterator[Database]:
    reserved = with_reserve(database._options)
    await reserved.open()
    yield reserved
    await reserved.close()


NOTHING: dict[str, Any] = {"planner": ScriptedPlanner(), "caller": ScriptedCaller()}


async def test_a_heartbeat_without_an_answer_is_followed_by_another_in_time(
    silent: SilentOnce,
) -> None:
    async with running_worker(silent, lease=timedelta(seconds=6), **NOTHING) as worker:
        silent.is_silent = True
        await stays_held(worker, seconds=5)
    assert silent.heard_nothing == 1


async def test_a_heartbeat_queues_behind_no_other_statement(reserved: Database) -> None:
    async with running_worker(reserved, lease=timedelta(seconds=3), **NOTHING) as worker:
        sleeping = "SELECT pg_sleep(2.8)"
        busy = [asyncio.create_task(reserved.fetch(sleeping)) for _ in range(POOL)]
        try:
            await stays_held(worker, seconds=2.6)
        finally:
            await asyncio.gather(*busy)
