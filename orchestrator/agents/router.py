"""Which caller serves which protocol, behind the one seam that the engine sees."""

from collections.abc import Mapping
from typing import Protocol

from orchestrator.agents.agent import Caller, CallRequest
from orchestrator.domain.call import CallResult, CallStatus


class AgentCaller(Caller, Protocol):
    """A caller that can also ask what became of a call."""

    async def status(self, request: CallRequest) -> CallResult | None:
        """What became of an earlier call of an `at_most_once` agent.

        None when the agent never got it; a retryable error when that can't be known at present.
        """
        ...


class Callers:
    """Gives each call to the caller of its agent's protocol."""

    def __init__(self, by_protocol: Mapping[str, AgentCaller]) -> None:
        self._by_protocol = by_protocol

    async def call(self, request: CallRequest) -> CallResult:
        caller = self._by_protocol.get(request.agent.protocol)
        return _unsupported(request) if caller is None else await caller.call(request)

    async def status(self, request: CallRequest) -> CallResult | None:
        caller = self._by_protocol.get(request.agent.protocol)
        return _unsupported(request) if caller is None else await caller.status(request)


def _unsupported(request: CallRequest) -> CallResult:
    agent = request.agent
    return CallResult(
        status=CallStatus.ERROR,
        error=f"agent {agent.id!r} speaks {agent.protocol!r}, which this worker does not support",
    )
