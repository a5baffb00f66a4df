"""SIGKILL at a chosen moment: what was journaled is never done again, the rest is done once."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest_asyncio

from tests.crash.conftest import FIELDS, WORDS, Office, held
from tests.fakes.bus import until
from tests.fakes.invariants import check_positions
from tests.fakes.llm import HANG, calls

SESSION_SECONDS = 14.0
CUSTOMER, ACCOUNT = {"customer_id": "C-1"}, {"account_number": "A-1"}
BOTH = calls(("agent_crm", {"name": "ACME"}), ("agent_accounts", CUSTOMER))


def has_journaled(office: Office, task_id: str, kind: str) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return kind in await office.observer.kinds(task_id)

    return check


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def recovered(shared_office: Office) -> Office:
    """Its worker was killed in the middle of three tasks, which another one has ended.

    `asked`: while the model thought. `called`: while an agent worked. `half`: one of two calls that
    run side by side had its result in the journal.
    """
    office = shared_office
    office.crm.repeats_at_once = office.accounts.repeats_at_once = True
    office.llm.will("asked", HANG)
    office.llm.will("half", BOTH)
    office.accounts.will(held(ACCOUNT))
    first = await office.worker("first").start()
    await office.observer.task("half", WORDS, *FIELDS)
    await until(has_journaled(office, "half", "result"), what="the first result")
    office.crm.will(held(CUSTOMER))
    await office.observer.task("called", WORDS, *FIELDS)
    await office.observer.task("asked", WORDS, *FIELDS)
    await office.crm.wait_for_sends(2)
    await office.llm.wait_for_prompts(1, task_id="asked")
    await first.kill()
    await office.worker("second").start()
    await office.observer.completed("asked", "called", "half")
    return office


async def test_a_worker_killed_while_the_model_thinks_has_the_model_asked_again(
    recovered: Office,
) -> None:
    assert [prompt.turn for prompt in recovered.llm.of("asked")] == [0, 0, 1]


async def test_a_call_under_way_when_its_worker_died_is_made_again_with_the_same_key(
    recovered: Office,
) -> None:
    assert recovered.crm.sends["called/2/1"] == 2
    assert recovered.crm.effects["called/2/1"] == 1


async def test_a_journaled_decision_is_never_asked_for_again(recovered: Office) -> None:
    assert [prompt.turn for prompt in recovered.llm.of("called")] == [0, 1]
    assert [prompt.turn for prompt in recovered.llm.of("half")] == [0]


async def test_a_journaled_call_is_never_made_again(recovered: Office) -> None:
    assert recovered.crm.sends["half/2/1"] == 1
    assert recovered.accounts.sends["half/2/2"] == 2


async def test_everything_holds_after_a_worker_was_killed(recovered: Office) -> None:
    await recovered.check("asked", "called", "half")


async def test_a_restart_under_its_own_name_waits_for_no_lease(office: Office) -> None:
    office.crm.will(held(CUSTOMER))
    office.crm.repeats_at_once = True
    first = await office.worker("same", lease_seconds=30).start()
    await office.observer.task("t", WORDS, *FIELDS)
    await office.crm.wait_for_sends(1)

    await first.kill()
    second = office.worker("same", lease_seconds=30)
    await second.launch()
    await second.will_say("worker joined")

    await office.crm.wait_for_sends(2, timeout_seconds=15)
    await office.check("t")


async def test_a_restart_under_its_own_name_keeps_nobody_from_reading(office: Office) -> None:
    session = {"KAFKA_SESSION_TIMEOUT_SECONDS": f"{SESSION_SECONDS:g}"}
    first, other = office.worker("same"), office.worker("other")
    for worker in (first, other):
        worker.environ.update(session)
        await worker.start()

    await first.kill()
    again = office.worker("same")
    again.environ.update(session)
    # The group would wait for the session of the one that was killed: eleven seconds and more.
    async with asyncio.timeout(SESSION_SECONDS - 4):
        await again.start()
        tasks = await office.publish(12)
        await office.observer.completed(*tasks)
    await office.check(*tasks)


async def test_a_message_whose_position_moved_is_in_postgresql(office: Office) -> None:
    first = await office.worker("first").start()
    tasks = await office.publish(120)
    await office.progress(10)

    await first.kill()

    await check_positions(office.observer)
    await office.worker("second").start()
    await office.check(*tasks)
    await check_positions(office.observer)


async def test_when_the_leader_of_the_relay_is_killed_updates_go_on_in_order(
    office: Office,
) -> None:
    workers = {name: await office.worker(name).start() for name in ("first", "second")}
    tasks = await office.publish(100)
    await office.progress(30)
    leader = await _leader(office)

    await workers[leader].kill()

    await office.check(*tasks)
    assert await _leader(office) in workers.keys() - {leader}


async def _leader(office: Office) -> str:
    rows = await office.observer.rows(
        "SELECT w.name FROM leases l JOIN workers w ON w.id = l.owner WHERE l.name = 'relay'"
    )
    return str(rows[0]["name"])
