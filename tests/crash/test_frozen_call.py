"""A worker is frozen while an agent works for it, far beyond the lease; another one does it all.

The agent holds its answer until the test lets it go, as a call of minutes would: when it comes, the
task has ended under a newer owner.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest_asyncio

from tests.crash.conftest import FIELDS, WORDS, Office, held
from tests.fakes.bus import until
from tests.fakes.worker_process import WorkerProcess

CALL_SECONDS = 300
"""What the agent may take: many times the lease of 2 s, and longer than this test."""
KEY = "long/2/1"
CUSTOMER = {"customer_id": "C-1"}
STEPS = """
SELECT s.* FROM steps s JOIN tasks t ON t.id = s.task WHERE t.task_id = 'long' ORDER BY s.seq
"""
RESULTS_WRITTEN = 'orchestrator_steps_total{kind="result"} '
"""Counted when PostgreSQL has answered, whether it took the step or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """All that PostgreSQL has of the task."""

    task: Any
    steps: list[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """It stands still in the middle of the call; another worker has ended its task."""

    office: Office
    first: WorkerProcess
    begun: Stored
    """When the call was under way."""
    ended: Stored

    async def answer(self) -> None:
        """To the held call; where its worker stands still, the answer waits in its socket."""
        self.office.crm.release()
        await until(lambda: self.office.crm.concurrent == 0, what="an answer to the held call")

    async def is_unchanged(self) -> None:
        """Nothing of the task is other than the second worker left it."""
        assert await stored(self.office) == self.ended
        assert [prompt.turn for prompt in self.office.llm.of("long")] == [0, 1]
        assert (self.office.crm.sends[KEY], self.office.crm.effects[KEY]) == (2, 1)
        assert set(self.office.accounts.sends.values()) == {1}
        await self.office.check("long")


async def stored(office: Office) -> Stored:
    return Stored(task=await office.observer.row("long"), steps=await office.observer.rows(STEPS))


async def results_written(worker: WorkerProcess) -> float:
    _, page = await worker.get("/metrics")
    found = [line for line in page.splitlines() if line.startswith(RESULTS_WRITTEN)]
    return sum(float(line.removeprefix(RESULTS_WRITTEN)) for line in found)


@asynccontextmanager
async def no_heartbeats(office: Office) -> AsyncIterator[None]:
    """A worker that thaws reads its answer, or hears first that its tasks have other owners."""
    connection = await asyncpg.connect(office.service.place.database_url)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE workers IN EXCLUSIVE MODE")
            yield
    finally:
        await connection.close()


async def comes_back(worker: WorkerProcess) -> None:
    worker.thaw()
    await worker.will_say("tasks have newer owners")
    await until(worker.is_ready, what="readiness")


@pytest_asyncio.fixture(loop_scope="session")
async def frozen(office: Office) -> Frozen:
    crm = office.crm
    limits = {"timeout_seconds": CALL_SECONDS}
    office.service.declare("crm", crm.url, needs=["name"], adds=list(CUSTOMER), limits=limits)
    crm.will(held(CUSTOMER))
    crm.repeats_at_once = True
    first = await office.worker("first").start()
    await office.observer.task("long", WORDS, *FIELDS)
    await crm.wait_for_sends(1)
    begun = await stored(office)
    first.freeze()
    await office.worker("second").launch()
    await office.observer.completed("long", seconds=60)
    return Frozen(office=office, first=first, begun=begun, ended=await stored(office))


async def test_a_call_of_a_frozen_worker_is_made_again_under_the_same_key_by_the_next_one(
    frozen: Frozen,
) -> None:
    crm, old = frozen.office.crm, frozen.begun.task["epoch"]
    assert (crm.sends, crm.effects[KEY]) == ({KEY: 2}, 1)
    assert crm.concurrent == 1, "the first call is still under way"
    known = len(frozen.begun.steps)
    assert {step["epoch"] for step in frozen.ended.steps[:known]} == {old}
    assert old not in {step["epoch"] for step in frozen.ended.steps[known:]}


async def test_an_answer_that_a_worker_finds_when_it_thaws_is_refused(frozen: Frozen) -> None:
    async def has_written() -> bool:
        return await results_written(frozen.first) == 1

    await frozen.answer()
    async with no_heartbeats(frozen.office):
        frozen.first.thaw()
        await until(has_written, what="the stale write")
    await comes_back(frozen.first)
    await frozen.is_unchanged()


async def test_an_answer_that_comes_when_its_worker_is_back_is_not_waited_for(
    frozen: Frozen,
) -> None:
    await comes_back(frozen.first)
    await frozen.answer()
    assert await results_written(frozen.first) == 0
    await frozen.is_unchanged()
