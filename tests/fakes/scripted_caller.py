"""Agents inside the test: they do what it wrote down, and count what was asked of them."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from orchestrator.agents.agent import CallRequest
from orchestrator.domain.agent import Agent
from orchestrator.domain.call import CallResult, CallStatus
from orchestrator.domain.ids import AgentId, Epoch, idempotency_key

Behaviour = Callable[[CallRequest, int], Awaitable[CallResult]]
"""What an agent does with a request that reaches it for the n-th time (from 1) under its key."""


class ScriptedCaller:
    """Answers for every agent; several workers may share it, as they share agents."""

    def __init__(self, **behaviours: Behaviour) -> None:
        """By agent; an agent that is not named succeeds with an empty output."""
        self.behaviours: dict[str, Behaviour] = dict(behaviours)
        self.statuses: dict[str, CallResult | None] = {}
        """What `status` says, by idempotency key; nobody knows the others."""
        self.sends: Counter[str] = Counter()
        self.effects: Counter[str] = Counter()
        """Effects of an agent that honours the key: one for each call that succeeded."""
        self.asked: Counter[str] = Counter()
        """Questions for a call's status."""
        self.cancelled: Counter[str] = Counter()
        """Calls that were said to be cancelled."""
        self.epochs: dict[str, list[Epoch]] = defaultdict(list)
        self.under_way = 0
        self.most_under_way = 0

    async def call(self, request: CallRequest) -> CallResult:
        key = key_of(request)
        self.sends[key] += 1
        self.epochs[key].append(request.epoch)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            result = await self._behaviour(request)(request, self.sends[key])
        finally:
            self.under_way -= 1
        if result.status is CallStatus.SUCCESS:
            self.effects[key] = 1
        return result

    async def status(self, request: CallRequest) -> CallResult | None:
        self.asked[key_of(request)] += 1
        return self.statuses.get(key_of(request))

    async def cancel(self, request: CallRequest) -> bool:
        self.cancelled[key_of(request)] += 1
        return True

    def _behaviour(self, request: CallRequest) -> Behaviour:
        return self.behaviours.get(request.agent.id, says())


def key_of(request: CallRequest) -> str:
    return idempotency_key(request.task_id, step=request.step, call=request.call)


def success(**output: Any) -> CallResult:
    return CallResult(status=CallStatus.SUCCESS, output=output)


def failure(error: str = "busy", *, retryable: bool = True, **more: Any) -> CallResult:
    """An error that may pass; `more` are fields of `CallResult`."""
    return CallResult(status=CallStatus.ERROR, error=error, retryable=retryable, **more)


ACCEPTED = CallResult(status=CallStatus.ACCEPTED)


def says(*results: CallResult) -> Behaviour:
    """These in turn, then the last one again and again; success without any."""
    script = results or (success(),)

    async def answer(_request: CallRequest, time: int) -> CallResult:
        return script[min(time, len(script)) - 1]

    return answer


def takes(seconds: float, result: CallResult | None = None) -> Behaviour:
    """An agent that works for a while."""

    async def answer(_request: CallRequest, _time: int) -> CallResult:
        await asyncio.sleep(seconds)
        return result or success()

    return answer


class Gate:
    """An agent that takes a call in and answers it when the test opens the gate."""

    def __init__(self, result: CallResult | None = None) -> None:
        self.result = result or success()
        self.entered = asyncio.Event()
        self.opened = asyncio.Event()

    async def __call__(self, _request: CallRequest, _time: int) -> CallResult:
        self.entered.set()
        await self.opened.wait()
        return self.result


def agent(name: str, *fields: str, **changes: Any) -> Agent:
    """An agent that can add these fields to a task's data."""
    return Agent(
        id=AgentId(name),
        name=name,
        description=f"The agent {name}.",
        endpoint=f"http://{name}.invalid",
        output_schema={"type": "object", "properties": {f: {} for f in fields}},
        **changes,
    )


AGENTS: Sequence[Agent] = (
    agent("crm", "customer_id"),
    agent("billing", "invoice_id"),
    agent("mail", "sent", effects="at_most_once", status_url="http://mail.invalid/status"),
)
