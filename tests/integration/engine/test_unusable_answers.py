"""An agent that did its work and answered what can't be used: its effect is not taken for none."""

from dataclasses import replace

import pytest

from orchestrator.agents.callers.http_json import HttpCaller
from orchestrator.agents.http import agent_http_client
from orchestrator.domain.compensation import Compensation
from orchestrator.domain.decision import Fail
from orchestrator.domain.ids import AgentId
from orchestrator.domain.json import JsonObject
from orchestrator.store.database import Database
from tests.fakes.agent import Behaviour, ok, running_agent
from tests.fakes.scripted_caller import agent
from tests.fakes.scripted_planner import ScriptedPlanner, delegate
from tests.fakes.workers import Feed, reaches, running_worker

UNDO = Compensation(agent=AgentId("undo"))
SCHEMA: JsonObject = {"type": "object", "properties": {"customer_id": {"type": "integer"}}}


@pytest.mark.parametrize(
    "answer",
    [
        ok({"customer_id": "seven"}),
        Behaviour(body="created"),
        Behaviour(body='{"status": "done"}'),
        Behaviour(body='{"status": "success", "output": {"note": "' + "x" * 6_000_000 + '"}}'),
    ],
    ids=["against its schema", "not JSON", "no contract", "too large"],
)
async def test_an_effect_whose_answer_can_not_be_used_is_undone(
    database: Database, feed: Feed, answer: Behaviour
) -> None:
    async with running_agent() as crm, running_agent() as undo, agent_http_client() as client:
        crm.default = answer
        agents = (
            replace(agent("crm", compensation=UNDO), endpoint=crm.url, output_schema=SCHEMA),
            replace(agent("undo"), endpoint=undo.url),
        )
        planner = ScriptedPlanner(delegate("crm"), Fail(reason="no"))
        caller = HttpCaller(client, environ={})
        async with running_worker(
            database, planner=planner, caller=caller, agents=agents
        ) as worker:
            await feed.task("t", to=worker)
            await reaches(database, "t", "failed")
        assert (crm.effects.total(), undo.effects.total()) == (1, 1)


async def test_an_at_most_once_agent_whose_answer_can_not_be_used_is_asked_what_became_of_it(
    database: Database, feed: Feed
) -> None:
    async with running_agent() as crm, agent_http_client() as client:
        crm.default = ok({"customer_id": "seven"})
        crm.status = ok({"customer_id": 7})
        mail = agent("crm", effects="at_most_once", status_url=f"{crm.url}/status/{{key}}")
        agents = (replace(mail, endpoint=crm.url, output_schema=SCHEMA),)
        planner = ScriptedPlanner(delegate("crm"), Fail(reason="no"))
        caller = HttpCaller(client, environ={})
        async with running_worker(
            database, planner=planner, caller=caller, agents=agents
        ) as worker:
            await feed.task("t", to=worker)
            row = await reaches(database, "t", "failed")
        assert [request.method for request in crm.received] == ["POST", "GET"]
    assert row["reason"] == "no"


@pytest.mark.parametrize("digits", ["18446744073709551617", "9" * 78, "0.1234567890123456789"])
async def test_a_number_that_would_be_changed_never_reaches_the_journal(
    database: Database, feed: Feed, digits: str
) -> None:
    async with running_agent() as crm, agent_http_client() as client:
        crm.default = Behaviour(body=f'{{"status": "success", "output": {{"amount": {digits}}}}}')
        async with running_worker(
            database,
            planner=ScriptedPlanner(delegate("crm"), Fail(reason="no")),
            caller=HttpCaller(client, environ={}),
            agents=(replace(agent("crm"), endpoint=crm.url),),
        ) as worker:
            await feed.task("t", to=worker)
            await reaches(database, "t", "failed")
    (row,) = await database.fetch("SELECT body::text AS body FROM steps WHERE kind = 'result'")
    assert "answered a body that can't be used: output.amount: the " in row["body"]
    assert digits in row["body"]
    assert '"output": {}' in row["body"]
