"""Cancel, pause and answers reach a task through the topics while its agent works."""

import re
import time

from tests.acceptance.conftest import Office
from tests.fakes.agent import Behaviour, ok
from tests.fakes.bus import until

REGISTER = "Register the customer ACME"
TRIES = 5
PAUSED = r"paused by \S+events/\d+/\d+ \(says: ops\)"
AT_ONCE_SECONDS = 1.0
"""What is promised of each cancel and each pause, also while a call is under way."""


async def begun(office: Office, task_id: str) -> None:
    """The agent has the task's first call."""
    await until(lambda: f"{task_id}/2/1" in office.crm.sends, seconds=40, what=f"{task_id} begun")


async def test_a_pause_event_shows_within_a_second_and_lets_the_call_end(office: Office) -> None:
    slow = Behaviour(body=ok({"customer_id": "C-1"}).body, delay_seconds=3.0)
    took = []
    for number in range(TRIES):
        task_id = f"paused-{number}"
        office.crm.will(slow)
        await office.observer.task(task_id, REGISTER, "customer_id", "account_number")
        await begun(office, task_id)
        began = time.monotonic()
        await office.observer.event(task_id, {"by": "ops"}, event_type="pause")
        await until(lambda task_id=task_id: _shows_pause(office, task_id), what=f"{task_id} paused")
        took.append(time.monotonic() - began)
        row = await office.observer.reached(task_id, "waiting")
        assert re.fullmatch(rf"a resume event \({PAUSED}\)", row["reason"])
        assert row["context"]["collected_data"] == {"customer_id": "C-1"}
        await office.observer.event(task_id, event_type="resume")
        await office.observer.reached(task_id, "completed")
        assert office.crm.sends[f"{task_id}/2/1"] == 1
    assert max(took) < AT_ONCE_SECONDS, took


async def _shows_pause(office: Office, task_id: str) -> bool:
    row = await office.observer.row(task_id)
    return bool(re.fullmatch(PAUSED, row["context"]["current_state"]))


async def test_an_answer_by_event_ends_a_call_that_hangs(office: Office) -> None:
    office.crm.will(Behaviour(kind="hang"))
    await office.observer.task("answered", REGISTER, "customer_id")
    await begun(office, "answered")

    await office.observer.event(
        "answered",
        event_type="agent_result",
        step=2,
        call=1,
        status="success",
        output={"customer_id": "C-by-event"},
    )

    row = await office.observer.reached("answered", "completed")
    assert row["context"]["collected_data"] == {"customer_id": "C-by-event"}


async def test_a_cancel_event_ends_a_task_during_a_call_within_a_second(office: Office) -> None:
    took = []
    for number in range(TRIES):
        task_id = f"cut-{number}"
        office.crm.will(Behaviour(kind="hang"))
        await office.observer.task(task_id, REGISTER, "customer_id")
        await begun(office, task_id)
        began = time.monotonic()
        await office.observer.event(task_id, {"reason": "typo", "by": "ops"}, event_type="cancel")
        row = await office.observer.reached(task_id, "cancelled")
        took.append(time.monotonic() - began)
        assert re.fullmatch(r"typo \(\S+ \(says: ops\)\)", row["reason"])
    assert max(took) < AT_ONCE_SECONDS, took
    last = (await office.observer.steps("cut-0"))[-1]
    assert last["body"]["unknown"] == ["cut-0/2/1"]
