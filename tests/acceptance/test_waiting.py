"""A task that waits costs a row and nothing else, and what it waits for wakes it."""

from tests.acceptance.conftest import Office
from tests.fakes.agent import input_required, status
from tests.fakes.bus import until
from tests.fakes.llm import calls

WORDS = "Open an account"
REGISTER = "Register the customer ACME"
WAIT = calls(("wait_for_event", {"reason": "the customer_id, from sales"}))


async def test_a_task_waits_for_what_is_missing_and_an_event_wakes_it(office: Office) -> None:
    office.llm.will("waits", WAIT)
    await office.observer.task("waits", WORDS, "account_number")
    row = await office.observer.reached("waits", "waiting")
    assert (row["reason"], row["owner"]) == ("the customer_id, from sales", None)

    await office.observer.event("waits", {"customer_id": "C-9"})

    row = await office.observer.reached("waits", "completed")
    assert row["context"]["event_data"] == {"customer_id": "C-9"}
    assert row["context"]["collected_data"] == {"account_number": "A-1"}
    assert await office.observer.kinds("waits") == [
        *("accepted", "decision", "waiting", "event", "decision", "result", "completed")
    ]


async def test_an_event_wakes_a_waiting_task_within_a_tenth_of_a_second(office: Office) -> None:
    # The machine may be busy with something else: the best of some tries says what the worker does.
    for number in range(8):
        task_id = f"woken-{number}"
        office.llm.will(task_id, WAIT)
        await office.observer.task(task_id, WORDS, "account_number")
        await office.observer.reached(task_id, "waiting")
        await office.observer.event(task_id, {"customer_id": "C-9"})
        await office.observer.reached(task_id, "completed")

    rows = await office.observer.rows(
        "SELECT min(s.at - i.received_at) AS best FROM task_steps s"
        " JOIN tasks t USING (task_id) JOIN inbox i ON i.task = t.id AND i.seq = s.seq"
        " WHERE s.kind = 'event' AND task_id LIKE 'woken-%'"
    )
    assert rows[0]["best"].total_seconds() < 0.1


async def test_an_event_that_comes_before_its_task_waits_for_it(office: Office) -> None:
    await office.observer.event("late", {"customer_id": "C-7"})
    await office.observer.reached("late", "expected")

    await office.observer.task("late", WORDS, "account_number")

    row = await office.observer.reached("late", "completed")
    assert row["context"]["event_data"] == {"customer_id": "C-7"}


async def test_an_event_with_an_id_counts_once_however_often_it_comes(office: Office) -> None:
    office.llm.will("once", WAIT, WAIT)
    await office.observer.task("once", WORDS, "account_number")
    await office.observer.reached("once", "waiting")
    for _ in range(3):
        await office.observer.event("once", {"note": "n"}, event_id="e-1")
    await office.observer.event("once", {"customer_id": "C-9"}, event_id="e-2")

    await office.observer.reached("once", "completed")

    assert (await office.observer.kinds("once")).count("event") == 2


async def test_an_event_after_the_end_is_kept_and_changes_nothing(office: Office) -> None:
    await office.observer.task("over", REGISTER, "customer_id")
    before = await office.observer.reached("over", "completed")

    await office.observer.event("over", {"customer_id": "C-other"})

    sql = "SELECT i.id FROM inbox i JOIN tasks t ON t.id = i.task WHERE t.task_id = 'over'"
    await until(lambda: _has(office, sql, rows=2), what="the late event's row")
    after = await office.observer.row("over")
    assert (after["status"], after["context"]) == ("completed", before["context"])


async def _has(office: Office, sql: str, *, rows: int) -> bool:
    return len(await office.observer.rows(sql)) == rows


async def test_an_agent_that_asks_for_more_gets_it_by_an_event(office: Office) -> None:
    office.crm.will(input_required("In which country?"))
    await office.observer.task("asks", REGISTER, "customer_id")
    row = await office.observer.reached("asks", "waiting")
    assert row["reason"] == "In which country?"

    await office.observer.event("asks", {"country": "DE"}, event_type="answer")

    await office.observer.reached("asks", "completed")
    assert "asks/2/1" in office.crm.sends
    assert len([key for key in office.crm.sends if key.startswith("asks/")]) == 2


async def test_an_agent_that_accepts_answers_later_by_an_event(office: Office) -> None:
    office.crm.will(status(202))
    await office.observer.task("accepts", REGISTER, "customer_id")
    row = await office.observer.reached("accepts", "waiting")
    assert row["reason"] == "a later answer of crm"

    await office.observer.event(
        "accepts",
        event_type="agent_result",
        step=2,
        call=1,
        status="success",
        output={"customer_id": "C-late"},
    )

    row = await office.observer.reached("accepts", "completed")
    assert row["context"]["collected_data"] == {"customer_id": "C-late"}
    assert office.crm.sends["accepts/2/1"] == 1


async def test_a_cancel_event_ends_a_waiting_task(office: Office) -> None:
    office.llm.will("cancelled", WAIT)
    await office.observer.task("cancelled", WORDS, "account_number")
    await office.observer.reached("cancelled", "waiting")

    await office.observer.event("cancelled", {"reason": "not wanted"}, event_type="cancel")

    row = await office.observer.reached("cancelled", "cancelled")
    assert row["reason"] == "not wanted"
    await office.observer.told("cancelled", "task.cancelled")
