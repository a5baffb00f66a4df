"""An agent that must not be called twice: after a crash its status URL is asked, else a person."""

from dataclasses import dataclass

import pytest_asyncio

from tests.crash.conftest import Office, held
from tests.fakes.agent import FakeAgent, ok

WORDS = "Do it for the customer ACME"


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """Each agent got a call (task `t-<its name>`), and the worker that made it was killed."""

    office: Office
    forgetful: FakeAgent
    """Its status URL knows of no call."""
    mindful: FakeAgent
    """Its status URL knows the outcome."""


async def once(office: Office, name: str) -> FakeAgent:
    adds = {name: "done"}
    agent = await office.service.agent(name, needs=["name"], adds=adds)
    office.service.declare(
        name,
        agent.url,
        needs=["name"],
        adds=list(adds),
        effects="at_most_once",
        status_url=f"{agent.url}/status/{{key}}",
    )
    agent.will(held(adds))
    return agent


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def broken(shared_office: Office) -> Broken:
    office = shared_office
    made = Broken(
        office=office,
        forgetful=await once(office, "forgetful"),
        mindful=await once(office, "mindful"),
    )
    made.mindful.status = ok({"mindful": "done"})
    first = await office.worker("first").start()
    for name, agent in (("forgetful", made.forgetful), ("mindful", made.mindful)):
        await office.observer.task(f"t-{name}", WORDS, name)
        await agent.wait_for_sends(1)
    await first.kill()
    await office.worker("second").start()
    return made


async def test_an_at_most_once_agent_is_called_once_and_a_person_decides(broken: Broken) -> None:
    observer = broken.office.observer
    row = await observer.reached("t-forgetful", "waiting")
    assert row["reason"].startswith("a person: whether call ")
    assert list(broken.forgetful.sends.values()) == [1]
    (key,) = broken.forgetful.sends
    _, step, call = key.split("/")

    output = {"forgetful": "done"}
    await observer.event(
        "t-forgetful", event_type="agent_result", step=int(step), call=int(call), output=output
    )

    await observer.reached("t-forgetful", "completed")
    assert list(broken.forgetful.sends.values()) == [1]


async def test_an_at_most_once_agent_that_knows_the_call_spares_the_person(broken: Broken) -> None:
    row = await broken.office.observer.reached("t-mindful", "completed")

    assert row["context"]["collected_data"] == {"mindful": "done"}
    assert list(broken.mindful.sends.values()) == [1]
