"""A worker that stands still past its lease and comes back has nothing left to say."""

from tests.crash.conftest import Office
from tests.fakes.bus import until
from tests.fakes.worker_process import WorkerProcess

ANEW = "worker was given up by the others, it begins anew"


async def frozen_past_its_lease(office: Office) -> tuple[WorkerProcess, list[str]]:
    """It was in the middle of many prompts and calls; all of its tasks were done by another."""
    office.llm.think_seconds = 0.3
    first = await office.worker("first").start()
    tasks = await office.publish(40)
    await office.crm.wait_for_sends(10)
    first.freeze()
    await office.worker("second").start()
    await office.observer.completed(*tasks, seconds=60)
    return first, tasks


async def test_a_frozen_worker_that_comes_back_writes_nothing(office: Office) -> None:
    first, tasks = await frozen_past_its_lease(office)
    (before,) = await office.observer.rows("SELECT count(*) AS steps FROM steps")

    first.thaw()

    await first.will_say(ANEW)
    await until(first.is_ready, what="readiness")
    (after,) = await office.observer.rows("SELECT count(*) AS steps FROM steps")
    assert after["steps"] == before["steps"]
    await office.check(*tasks)


async def test_a_frozen_worker_that_comes_back_sends_nothing(office: Office) -> None:
    first, tasks = await frozen_past_its_lease(office)
    calls = [len(agent.received) for agent in (office.crm, office.accounts)]
    prompts = len(office.llm.prompts)

    first.thaw()

    await first.will_say(ANEW)
    await until(first.is_ready, what="readiness")
    assert [len(agent.received) for agent in (office.crm, office.accounts)] == calls
    assert len(office.llm.prompts) == prompts
    await office.check(*tasks)


async def test_a_frozen_worker_that_comes_back_works_again(office: Office) -> None:
    first, tasks = await frozen_past_its_lease(office)
    first.thaw()
    await first.will_say(ANEW)
    await until(first.is_ready, what="readiness")

    assert await office.service.workers[1].stop() == 0
    await office.observer.task("next", "Register the customer ACME", "customer_id")

    await office.check(*tasks, "next")
