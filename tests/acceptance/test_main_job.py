"""A task goes in through Kafka, model and agents do it, its context ends in PostgreSQL."""

import json

import pytest

from tests.acceptance.conftest import Office
from tests.fakes.agent import Behaviour
from tests.fakes.bus import until
from tests.fakes.llm import calls

WORDS = "Register the customer ACME and open an account"


async def test_a_published_task_is_completed_with_its_context_in_postgresql(
    office: Office,
) -> None:
    await office.observer.task(
        "simple", WORDS, "customer_id", "account_number", event_data={"country": "DE"}
    )

    row = await office.observer.reached("simple", "completed")

    assert row["context"] == {
        "required_fields": ["customer_id", "account_number"],
        "current_state": "completed",
        "collected_data": {"customer_id": "C-1", "account_number": "A-1"},
        "event_data": {"country": "DE"},
    }
    assert row["owner"] is None


async def test_every_step_is_told_on_task_updates_in_the_order_of_the_steps(
    office: Office,
) -> None:
    await office.observer.task("told", WORDS, "customer_id")

    updates = await office.observer.told("told", "task.completed")

    steps = await office.observer.steps("told")
    assert [u.seq for u in updates] == [s["seq"] for s in steps] == [1, 2, 3, 4]
    assert [u.body["kind"] for u in updates] == [s["kind"] for s in steps]
    assert [u.type for u in updates] == [
        "task.accepted",
        "task.step",
        "task.step",
        "task.completed",
    ]
    assert [u.id for u in updates] == [f"told/{n}" for n in (1, 2, 3, 4)]


async def test_when_all_fields_are_collected_the_model_is_not_asked_again(office: Office) -> None:
    await office.observer.task("spared", WORDS, "customer_id")

    await office.observer.reached("spared", "completed")

    assert len(office.llm.of("spared")) == 1


@pytest.mark.parametrize("key", [None, b"", b"spared", b"\xff\x00", b"x" * 5000])
async def test_a_task_is_taken_with_any_key_and_with_none(
    office: Office, key: bytes | None
) -> None:
    task_id = f"key-{None if key is None else len(key)}"
    value = {"task_id": task_id, "task_description": WORDS, "required_fields": ["customer_id"]}

    await office.observer.publish(office.observer.topics.tasks, json.dumps(value).encode(), key=key)

    await office.observer.reached(task_id, "completed")


async def test_a_task_without_an_id_gets_one(office: Office) -> None:
    words = "Register the customer NAMELESS"
    value = {"task_description": words, "required_fields": ["customer_id"]}

    await office.observer.publish(office.observer.topics.tasks, json.dumps(value).encode())

    sql = "SELECT task_id FROM tasks WHERE description LIKE '%NAMELESS' AND status = 'completed'"
    await until(lambda: _has_one(office, sql), what="a task with an id of its own")


async def _has_one(office: Office, sql: str) -> bool:
    return [len(row["task_id"]) for row in await office.observer.rows(sql)] == [36]


async def test_a_task_that_comes_twice_is_done_once(office: Office) -> None:
    for _ in range(3):
        await office.observer.task("twice", WORDS, "customer_id")

    await office.observer.told("twice", "task.completed")

    assert [key for key in office.crm.effects if key.startswith("twice/")] == ["twice/2/1"]
    assert office.crm.effects["twice/2/1"] == 1


async def test_every_earlier_context_can_be_read_by_step(office: Office) -> None:
    await office.observer.task("history", WORDS, "customer_id", "account_number")
    await office.observer.reached("history", "completed")

    rows = await office.observer.rows(
        "SELECT seq, context_at('history', seq) -> 'collected_data' AS data FROM task_steps"
        " WHERE task_id = 'history' AND kind IN ('accepted', 'result') ORDER BY seq"
    )

    assert [row["data"] for row in rows] == [
        {},
        {"customer_id": "C-1"},
        {"customer_id": "C-1", "account_number": "A-1"},
    ]


async def test_a_task_that_no_agent_can_do_fails_with_the_reason(office: Office) -> None:
    await office.observer.task("impossible", WORDS, "unicorn")

    row = await office.observer.reached("impossible", "failed")

    assert row["reason"] == "no agent can provide unicorn"
    updates = await office.observer.told("impossible", "task.failed")
    assert updates[-1].type == "task.failed"


async def test_the_calls_of_one_decision_run_side_by_side(office: Office) -> None:
    customer = {"customer_id": "C-1"}
    office.llm.will("parallel", calls(("agent_accounts", customer), ("agent_contracts", customer)))
    agents = (office.accounts, office.contracts)
    sends = [agent.sends.total() for agent in agents]
    for agent in agents:
        agent.will(Behaviour(kind="hang"))

    await office.observer.task("parallel", WORDS, "account_number", "contract_id")

    for agent, before in zip(agents, sends, strict=True):  # neither has answered yet
        await agent.wait_for_sends(before + 1)
    for agent in agents:
        agent.release()
    await office.observer.reached("parallel", "completed")
