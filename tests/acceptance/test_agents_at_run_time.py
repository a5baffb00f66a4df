"""Agents come and go while the service runs, and the model sees it at its next turn."""

from tests.acceptance.conftest import Office
from tests.fakes.agent import ok, running_agent
from tests.fakes.llm import calls
from tests.integration.cli.command import called


async def command(office: Office, *arguments: str) -> str:
    """`orchestrator …` against the service's own database; what it says."""
    run = await called({"DATABASE_URL": office.service.place.database_url}, *arguments)
    assert run.returncode == 0, run.stderr
    return run.stdout + run.stderr


async def test_an_agent_that_is_added_while_the_service_runs_is_used_at_the_next_turn(
    office: Office,
) -> None:
    wait = calls(("wait_for_event", {"reason": "an agent for it"}))
    office.llm.will("later", wait)
    await office.observer.task("later", "Issue the badge of the customer ACME", "badge")
    await office.observer.reached("later", "waiting")
    async with running_agent(ok({"badge": "B-1"})) as badges:
        file = office.service.declare("badges", badges.url, needs=["name"], adds=["badge"])
        await command(office, "agents", "add", str(file))

        await office.observer.event("later", {"note": "there is one now"})

        await office.observer.reached("later", "completed")
    before, after = office.llm.of("later")
    assert "agent_badges" not in before.tools
    assert "agent_badges" in after.tools
    assert badges.effects.total() == 1


async def test_an_agent_that_is_removed_is_offered_no_more(office: Office) -> None:
    file = office.service.declare("gone", office.crm.url, needs=["name"], adds=["gone_field"])
    await command(office, "agents", "add", str(file))
    await command(office, "agents", "remove", "gone")

    await office.observer.task("after", "Register the customer ACME", "gone_field")

    row = await office.observer.reached("after", "failed")
    assert row["reason"] == "no agent can provide gone_field"
    assert "agent_gone" not in office.llm.of("after")[0].tools


async def test_a_paused_agent_is_called_no_more_until_it_is_resumed(office: Office) -> None:
    await command(office, "agents", "pause", "crm", "--reason", "it answers nonsense")
    before = office.crm.sends.total()

    await office.observer.task("held", "Register the customer ACME", "customer_id")

    row = await office.observer.reached("held", "waiting", seconds=20)
    assert "paused by" in row["reason"]
    assert "it answers nonsense" in row["reason"]
    assert office.crm.sends.total() == before
    await command(office, "agents", "resume", "crm")
    await office.observer.reached("held", "completed")
    assert "tasks parked for it: 0" in await command(office, "agents", "show", "crm")
