"""An agent that must never be called twice: after a crash its status URL is asked, else a person."""

import pytest_asyncio

from tests.crash.conftest import Office, slow
from tests.fakes.agent import FakeAgent, ok
from tests.fakes.worker_process import WorkerProcess

WORDS = "Wire the money of the customer ACME"
OUTPUT = {"receipt": "R-1"}


@pytest_asyncio.fixture(loop_scope="session")
async def bank(office: Office) -> FakeAgent:
    bank = await office.service.agent("bank", needs=["name"], adds=OUTPUT)
    office.service.declare(
        "bank",
        bank.url,
        needs=["name"],
        adds=list(OUTPUT),
        effects="at_most_once",
        status_url=f"{bank.url}/status/{{key}}",
    )
    return bank


async def killed_in_the_middle(office: Office, bank: FakeAgent) -> WorkerProcess:
    """The bank got the call, and nobody is left who waits for its answer; the next worker."""
    bank.will(slow(OUTPUT, seconds=5))
    first = await office.worker("first").start()
    await office.observer.task("t", WORDS, "receipt")
    await bank.wait_for_sends(1)
    await first.kill()
    return await office.worker("second").start()


async def test_an_at_most_once_agent_is_called_once_and_a_person_decides(
    office: Office, bank: FakeAgent
) -> None:
    await killed_in_the_middle(office, bank)

    row = await office.observer.reached("t", "waiting")

    assert row["reason"].startswith("a person: whether call 2/1 of agent 'bank' took effect")
    assert bank.sends == {"t/2/1": 1}
    await office.observer.event(
        "t", event_type="agent_result", step=2, call=1, status="success", output=OUTPUT
    )
    await office.observer.reached("t", "completed")
    assert bank.sends == {"t/2/1": 1}


async def test_an_at_most_once_agent_that_knows_the_call_spares_the_person(
    office: Office, bank: FakeAgent
) -> None:
    bank.status = ok(OUTPUT)

    await killed_in_the_middle(office, bank)

    row = await office.observer.reached("t", "completed")
    assert row["context"]["collected_data"] == OUTPUT
    assert bank.sends == {"t/2/1": 1}
