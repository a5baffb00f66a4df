"""The whole way of a call as a worker makes it: gate, router and HTTP, against a real server."""

import asyncio
from dataclasses import replace

from orchestrator.agents.callers.http_json import HttpCaller
from orchestrator.agents.http import agent_http_client
from orchestrator.agents.router import Callers
from orchestrator.agents.targets import Targets
from orchestrator.domain.agent import Limits
from orchestrator.domain.call import CallStatus
from orchestrator.domain.errors import NotNow
from orchestrator.domain.ids import Seq
from tests.fakes.agent import Behaviour, ok, running_agent
from tests.fakes.callers import CRM, call_request


async def test_an_agent_never_sees_more_calls_at_once_than_it_allows() -> None:
    slow = Behaviour(body=ok().body, delay_seconds=0.01)
    async with running_agent(slow) as peer, agent_http_client() as client:
        caller = Callers({"http": HttpCaller(client, environ={})})
        agent = replace(CRM, endpoint=peer.url, limits=Limits(concurrency=3))
        target = Targets().agent(agent)

        async def call(number: int) -> CallStatus:
            async with asyncio.timeout(30):
                while True:
                    try:
                        async with target.entered(is_retry=False) as entry:
                            request = call_request(agent=agent, step=Seq(number))
                            result = await caller.call(request)
                            entry.report(result.fault)
                            return result.status
                    except NotNow:  # no slot soon: the engine comes back later, too
                        await asyncio.sleep(0.01)

        assert set(await asyncio.gather(*(call(n) for n in range(30)))) == {CallStatus.SUCCESS}
        assert (peer.max_concurrent, peer.effects.total()) == (3, 30)
