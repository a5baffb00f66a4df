"""`health` tells people why an agent is not ready, and never raises for what it does."""

from dataclasses import replace

import pytest

from orchestrator.agents.health import health
from orchestrator.agents.http import agent_http_client
from tests.fakes.agent import Behaviour, running_agent, status
from tests.fakes.callers import CRM


async def test_a_ready_agent_tells_version_and_capabilities() -> None:
    async with running_agent() as peer, agent_http_client() as client:
        answer = await health(client, replace(CRM, endpoint=peer.url))
    assert (answer.ready, answer.version, answer.capabilities) == (True, "1.2.0", ("x",))
    assert answer.error is None


@pytest.mark.parametrize(
    ("behaviour", "problem"),
    [
        (status(404, body="Not Found"), "answered HTTP 404 to GET"),
        (status(200, body='{"ok": true}'), 'expected 200 with {"ready": true'),
        (Behaviour(kind="hang"), "did not answer within 0.2 s"),
        (Behaviour(kind="reset"), "the connection to agent 'crm' failed"),
        (status(503, body='{"ready": false}'), None),
        (status(503, body='{"ready": true}'), "answered HTTP 503 to GET"),
        (status(202, body='{"ready": true}'), "answered HTTP 202 to GET"),
    ],
)
async def test_an_agent_that_is_not_ready_is_told_why(
    behaviour: Behaviour, problem: str | None
) -> None:
    async with running_agent() as peer, agent_http_client() as client:
        peer.health = behaviour
        patience = 0.2 if behaviour.kind == "hang" else 10
        answer = await health(client, replace(CRM, endpoint=peer.url), timeout_seconds=patience)
    assert answer.ready is False
    assert (problem is None) == (answer.error is None)
    assert (problem or "") in (answer.error or "")


async def test_an_agent_that_is_not_there_is_not_ready() -> None:
    async with agent_http_client() as client:
        answer = await health(client, CRM)
    assert answer.ready is False
    assert "the connection to agent 'crm' failed" in (answer.error or "")
