"""Each kind of caller with a fake agent at its other end, for the conformance suite.

A new protocol adds one entry to `PROTOCOLS`; every test of `conformance/test_caller.py` then runs
on it too.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.agents.agent import Caller, CallRequest
from orchestrator.agents.callers.http_json import HttpCaller, HttpCallerOptions
from orchestrator.agents.http import agent_http_client
from orchestrator.domain.agent import Agent
from orchestrator.domain.call import CallResult
from orchestrator.domain.ids import AgentId, Epoch, Seq, TaskId
from orchestrator.domain.json import JsonObject
from tests.fakes.agent import FakeAgent, running_agent

CRM = Agent(
    id=AgentId("crm"),
    name="CRM",
    description="Creates customers.",
    endpoint="http://127.0.0.1:1",
    input_schema={
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"type": "string"}},
    },
    output_schema={"type": "object", "properties": {"customer_id": {"type": "string"}}},
    config={"region": "eu"},
)


def call_request(**changes: Any) -> CallRequest:
    """Call 2 of step 3 of task `t-1` to the CRM, with five seconds to answer."""
    request = CallRequest(
        agent=CRM,
        task_id=TaskId("t-1"),
        step=Seq(3),
        call=2,
        input={"name": "ACME"},
        epoch=Epoch(7),
        timeout_seconds=5.0,
    )
    return replace(request, **changes)


@dataclass(slots=True, kw_only=True)
class UnderTest:
    """A caller, the agent that it calls, and how that agent is declared."""

    caller: Caller
    peer: FakeAgent
    agent: Agent
    environ: dict[str, str] = field(default_factory=dict)

    async def call(self, input: JsonObject | None = None, **changes: Any) -> CallResult:  # noqa: A002 - the contract's own word
        given = {"name": "ACME"} if input is None else input
        return await self.caller.call(call_request(agent=self.agent, input=given, **changes))

    async def status(self, **changes: Any) -> CallResult | None:
        return await self.caller.status(call_request(agent=self.agent, **changes))


@asynccontextmanager
async def http_under_test(*, max_body_bytes: int = 5_000_000) -> AsyncIterator[UnderTest]:
    options = HttpCallerOptions(max_body_bytes=max_body_bytes)
    environ: dict[str, str] = {}
    async with running_agent() as peer, agent_http_client() as client:
        yield UnderTest(
            caller=HttpCaller(client, environ=environ, options=options),
            peer=peer,
            agent=replace(
                CRM,
                endpoint=peer.url,
                effects="at_most_once",
                status_url=f"{peer.url}/status",
            ),
            environ=environ,
        )


PROTOCOLS: dict[str, Callable[[], AbstractAsyncContextManager[UnderTest]]] = {
    "http": http_under_test,
}
