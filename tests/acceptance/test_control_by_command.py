"""`orchestrator tasks cancel|pause|resume` beside a worker that is in the middle of a call."""

from typing import Any

from tests.fakes.agent import Behaviour, FakeAgent, ok
from tests.fakes.bus import until
from tests.fixtures.service import Service
from tests.integration.cli.command import told

REGISTER = "Register the customer ACME"
CUSTOMER = {"customer_id": "C-1"}
HELD = Behaviour(kind="held", body=ok(CUSTOMER).body)
KEY = "t/2/1"
SECONDS = 15.0
"""From the end of the command on: the worker is told, and looks."""

UNTIL_CANCELLED = """
SELECT extract(epoch FROM t.finished_at - i.received_at)::float8 AS seconds
FROM tasks t JOIN inbox i ON i.task = t.id AND i.event_type = 'cancel' WHERE t.task_id = 't'
"""


async def in_a_call(service: Service) -> FakeAgent:
    """An agent that holds the only task's first call."""
    crm = await service.agent("crm", needs=["name"], adds=CUSTOMER)
    crm.will(HELD)
    await service.worker().start()
    await service.observer.task("t", REGISTER, "customer_id")
    await until(lambda: crm.is_asked(KEY), what="the call")
    return crm


async def tell(service: Service, verb: str) -> Any:
    flags = ("--by", "ops", "--reason", "typo", "--yes")
    return await told(service.environ(), "tasks", verb, "t", *flags)


async def test_a_cancel_ends_a_task_during_its_call_and_cuts_the_call(service: Service) -> None:
    crm = await in_a_call(service)

    answer = await tell(service, "cancel")

    assert answer["tasks"] == [{"task_id": "t", "was": "running"}]
    row = await service.observer.reached("t", "cancelled", seconds=SECONDS)
    assert row["reason"] == "typo (ops)"
    await until(lambda: not crm.is_asked(KEY), seconds=SECONDS, what="the call cut at the agent")
    last = (await service.observer.steps("t"))[-1]
    assert (last["kind"], last["body"]["unknown"]) == ("cancelled", [KEY])
    ((seconds,),) = await service.observer.rows(UNTIL_CANCELLED)
    assert seconds < 1
    assert crm.sends == {KEY: 1}


async def test_a_pause_lets_the_call_end_and_a_resume_lets_the_task_go_on(service: Service) -> None:
    crm = await in_a_call(service)

    answer = await tell(service, "pause")

    assert answer["tasks"] == [{"task_id": "t", "was": "running"}]
    await until(lambda: _shows_pause(service), seconds=SECONDS, what="paused")
    assert crm.is_asked(KEY)
    crm.release()
    row = await service.observer.reached("t", "waiting", seconds=SECONDS)
    assert row["reason"] == "a resume event (paused by ops: typo)"
    assert row["context"]["collected_data"] == CUSTOMER

    answer = await tell(service, "resume")

    assert answer["tasks"] == [{"task_id": "t", "was": "waiting"}]
    await service.observer.reached("t", "completed", seconds=SECONDS)
    assert crm.sends == {KEY: 1}


async def _shows_pause(service: Service) -> bool:
    row = await service.observer.row("t")
    return bool(row["context"]["current_state"].startswith("paused by ops"))
