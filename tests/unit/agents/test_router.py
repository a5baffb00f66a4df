"""Each protocol has its caller; one that this worker does not speak is an error, not a crash."""

from dataclasses import replace

from orchestrator.agents.agent import CallRequest
from orchestrator.agents.router import Callers
from orchestrator.domain.call import CallResult, CallStatus
from tests.fakes.callers import CRM, call_request


class Echo:
    async def call(self, request: CallRequest) -> CallResult:
        return CallResult(status=CallStatus.SUCCESS, output={"agent": request.agent.id})

    async def cancel(self, request: CallRequest) -> bool:
        return True

    async def status(self, request: CallRequest) -> CallResult | None:
        return None


async def test_a_call_goes_to_the_caller_of_its_protocol() -> None:
    callers = Callers({"http": Echo()})
    assert (await callers.call(call_request())).output == {"agent": "crm"}
    assert await callers.status(call_request()) is None


async def test_an_unknown_protocol_is_an_error_result() -> None:
    request = call_request(agent=replace(CRM, protocol="a2a"))
    callers = Callers({"http": Echo()})
    called, asked = await callers.call(request), await callers.status(request)
    assert asked is not None
    assert called.error == "agent 'crm' speaks 'a2a', which this worker does not support"
    assert (called.status, called.retryable) == (CallStatus.ERROR, False)
    assert (asked.error, asked.retryable) == (called.error, True)
