"""Which caller serves which protocol, behind the one seam that the engine sees."""

from collections.abc import Mapping
from dataclasses import replace

from orchestrator.agents.agent import Caller, CallRequest
from orchestrator.domain.call import CallResult, CallStatus


class Callers:
    """Gives each call to the caller of its agent's protocol."""

    def __init__(self, by_protocol: Mapping[str, Caller]) -> None:
        self._by_protocol = by_protocol

    async def call(self, request: CallRequest) -> CallResult:
        caller = self._by_protocol.get(request.agent.protocol)
        return _unsupported(request) if caller is None else await caller.call(request)

    async def status(self, request: CallRequest) -> CallResult | None:
        caller = self._by_protocol.get(request.agent.protocol)
        # Retryable, for it says nothing about the effect; another worker may speak the protocol.
        if caller is None:
            return replace(_unsupported(request), retryable=True)
        return await caller.status(request)

    async def cancel(self, request: CallRequest) -> bool:
        caller = self._by_protocol.get(request.agent.protocol)
        return caller is not None and await caller.cancel(request)


def _unsupported(request: CallRequest) -> CallResult:
    agent = request.agent
    return CallResult(
        status=CallStatus.ERROR,
        error=f"agent {agent.id!r} speaks {agent.protocol!r}, which this worker does not support",
    )
