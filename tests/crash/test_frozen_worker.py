"""A worker that stands still past its lease and comes back has nothing left to say."""

from dataclasses import dataclass

import pytest_asyncio

from tests.crash.conftest import FIELDS, WORDS, Office
from tests.fakes.bus import until
from tests.fakes.llm import HANG


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What there was at a moment."""

    steps: int
    requests: int
    """That agents received, whatever became of them."""
    prompts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Comeback:
    """Frozen in the middle of many prompts and calls; all of its tasks were done by another."""

    office: Office
    tasks: list[str]
    before: Seen
    after: Seen
    """It is thawed, has joined anew, and is ready."""


async def seen(office: Office) -> Seen:
    (row,) = await office.observer.rows("SELECT count(*) AS steps FROM steps")
    requests = len(office.crm.received) + len(office.accounts.received)
    return Seen(steps=row["steps"], requests=requests, prompts=len(office.llm.prompts))


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def comeback(shared_office: Office) -> Comeback:
    office = shared_office
    office.llm.think_seconds = 0.3
    first = await office.worker("first").start()
    tasks = await office.publish(40)
    await office.crm.wait_for_sends(10)
    first.freeze()
    await office.worker("second").start()
    await office.observer.completed(*tasks, seconds=60)
    await office.service.given_up("first")
    before = await seen(office)
    first.thaw()
    await first.will_say("worker was given up by the others, it begins anew")
    await until(first.is_ready, what="readiness")
    return Comeback(office=office, tasks=tasks, before=before, after=await seen(office))


async def test_a_frozen_worker_that_comes_back_writes_nothing(comeback: Comeback) -> None:
    assert comeback.after.steps == comeback.before.steps


async def test_a_frozen_worker_that_comes_back_sends_nothing(comeback: Comeback) -> None:
    assert comeback.after.requests == comeback.before.requests
    assert comeback.after.prompts == comeback.before.prompts


async def test_everything_holds_after_a_worker_was_frozen(comeback: Comeback) -> None:
    await comeback.office.check(*comeback.tasks)


async def test_a_frozen_worker_that_comes_back_works_again(comeback: Comeback) -> None:
    office = comeback.office
    assert await office.service.workers[1].stop() == 0

    await office.observer.task("next", "Register the customer ACME", "customer_id")

    await office.check(*comeback.tasks, "next")


FREEZES = 5
"""As many claims without a step as a task is given."""
OWNER = "SELECT w.name FROM tasks t JOIN workers w ON w.id = t.owner WHERE t.task_id = 'unlucky'"
CLAIMS = "SELECT claims FROM tasks WHERE task_id = 'unlucky'"


async def test_a_task_whose_workers_were_only_frozen_is_not_set_aside(office: Office) -> None:
    """Who comes back takes its claim out of the count."""
    office.llm.will("unlucky", *[HANG] * FREEZES)
    workers = {name: await office.worker(name).start() for name in ("one", "two")}
    await office.observer.task("unlucky", WORDS, *FIELDS)
    for freeze in range(1, FREEZES + 1):
        await office.llm.wait_for_prompts(freeze, task_id="unlucky")
        (owner,) = await office.observer.rows(OWNER)
        workers[owner["name"]].freeze()
        await office.llm.wait_for_prompts(freeze + 1, task_id="unlucky")
        workers[owner["name"]].thaw()

        async def is_forgotten() -> bool:
            (row,) = await office.observer.rows(CLAIMS)
            return bool(row["claims"] <= 1)

        await until(is_forgotten, what=f"freeze {freeze} that does not count")

    await office.check("unlucky")


async def test_a_worker_whose_name_another_took_while_it_was_frozen_ends(office: Office) -> None:
    elder = await office.worker("same").start()
    before = await office.publish(5)
    await office.observer.completed(*before)
    elder.freeze()
    younger = await office.worker("same").start()
    elder.thaw()

    assert await elder.ended() == 1
    (died,) = elder.says("worker died")
    assert "another worker runs under the name 'same'" in died["error"]

    await until(younger.is_ready, what="readiness")
    await office.observer.task("next", WORDS, *FIELDS)
    await office.check(*before, "next")
