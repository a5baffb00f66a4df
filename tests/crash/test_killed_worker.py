"""SIGKILL at a chosen moment: what was journaled is never done again, the rest is done once."""

from collections.abc import Awaitable, Callable

from tests.crash.conftest import FIELDS, WORDS, Office, slow
from tests.fakes.bus import until
from tests.fakes.invariants import check_positions
from tests.fakes.llm import HANG, calls

LONG_SECONDS = 3.0
CUSTOMER = {"customer_id": "C-1"}


async def test_a_worker_killed_while_the_model_thinks_has_the_model_asked_again(
    office: Office,
) -> None:
    office.llm.will("t", HANG)
    first = await office.worker("first").start()
    await office.observer.task("t", WORDS, *FIELDS)
    await office.llm.wait_for_prompts(1, task_id="t")

    await first.kill()
    await office.worker("second").start()

    await office.check("t")
    assert [prompt.turn for prompt in office.llm.of("t")] == [0, 0, 1]


async def test_a_call_under_way_when_its_worker_died_is_made_again_with_the_same_key(
    office: Office,
) -> None:
    office.crm.will(slow(CUSTOMER, seconds=LONG_SECONDS))
    first = await office.worker("first").start()
    await office.observer.task("t", WORDS, *FIELDS)
    await office.crm.wait_for_sends(1)

    await first.kill()
    await office.worker("second").start()

    await office.check("t")
    assert (office.crm.sends, office.crm.effects) == ({"t/2/1": 2}, {"t/2/1": 1})


async def test_a_journaled_decision_is_never_asked_for_again(office: Office) -> None:
    office.crm.will(slow(CUSTOMER, seconds=LONG_SECONDS))
    first = await office.worker("first").start()
    await office.observer.task("t", WORDS, *FIELDS)
    await office.crm.wait_for_sends(1)

    await first.kill()
    await office.worker("second").start()

    await office.check("t")
    assert set(office.llm.asked.values()) == {1}


async def test_a_journaled_call_is_never_made_again(office: Office) -> None:
    both = calls(("agent_crm", {"name": "ACME"}), ("agent_accounts", CUSTOMER))
    office.llm.will("t", both)
    office.accounts.will(slow({"account_number": "A-1"}, seconds=LONG_SECONDS))
    first = await office.worker("first").start()
    await office.observer.task("t", WORDS, *FIELDS)
    await until(_has_journaled(office, "result"), what="the first result")

    await first.kill()
    await office.worker("second").start()

    await office.check("t")
    assert (office.crm.sends, office.accounts.sends) == ({"t/2/1": 1}, {"t/2/2": 2})


def _has_journaled(office: Office, kind: str) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return kind in await office.observer.kinds("t")

    return check


async def test_a_restart_under_its_own_name_waits_for_no_lease(office: Office) -> None:
    office.crm.will(slow(CUSTOMER, seconds=LONG_SECONDS))
    first = await office.worker("same", lease_seconds=30).start()
    await office.observer.task("t", WORDS, *FIELDS)
    await office.crm.wait_for_sends(1)

    await first.kill()
    second = office.worker("same", lease_seconds=30)
    await second.launch()
    await second.will_say("worker joined")

    await office.crm.wait_for_sends(2, timeout_seconds=2)
    await office.check("t")


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

    await workers[await _leader(office)].kill()

    await office.check(*tasks)
    assert await _leader(office) in workers


async def _leader(office: Office) -> str:
    rows = await office.observer.rows(
        "SELECT w.name FROM leases l JOIN workers w ON w.id = l.owner WHERE l.name = 'relay'"
    )
    return str(rows[0]["name"])
