"""A caller whose agents do what a test wrote down, and that counts what reached them."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable

from orchestrator.agents.agent import CallRequest
from orchestrator.domain.agent import Agent, Effects
from orchestrator.domain.call import CallResult, CallStatus
from orchestrator.domain.ids import AgentId, Epoch, TaskId, idempotency_key
from orchestrator.domain.json import JsonObject, JsonValue

Behaviour = CallResult | Exception | Callable[[CallRequest], Awaitable[CallResult]]


class ScriptedCaller:
    """Agents that honour the idempotency key: a success is given again, not done again.

    An agent goes through its behaviours one a send and keeps to the last; without any it succeeds
    with nothing to say.
    """

    def __init__(self) -> None:
        self.requests: list[CallRequest] = []
        self.sends: Counter[str] = Counter()
        """By idempotency key."""
        self.effects: Counter[str] = Counter()
        self.asked_status: Counter[str] = Counter()
        self.statuses: dict[AgentId, CallResult | None] = {}
        """What agents say of a call that may have been made."""
        self.most_at_once = 0
        self._at_once = 0
        self._answers: dict[str, CallResult] = {}
        self._behaviours: defaultdict[AgentId, list[Behaviour]] = defaultdict(list)
        self._sends_of: Counter[AgentId] = Counter()
        self._epochs: dict[TaskId, Epoch] = {}

    def on(self, agent: str, *behaviours: Behaviour) -> None:
        self._behaviours[AgentId(agent)] = list(behaviours)
        self._sends_of[AgentId(agent)] = 0

    def sends_of(self, agent: str) -> int:
        return self._sends_of[AgentId(agent)]

    async def call(self, request: CallRequest) -> CallResult:
        key = _key(request)
        before = self._epochs.get(request.task_id, Epoch(0))
        assert request.epoch >= before, f"{key}: epoch {request.epoch} after {before}"
        self._epochs[request.task_id] = request.epoch
        self.requests.append(request)
        self.sends[key] += 1
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            return await self._answer(request, key)
        finally:
            self._at_once -= 1

    async def status(self, request: CallRequest) -> CallResult | None:
        self.asked_status[_key(request)] += 1
        return self.statuses.get(request.agent.id)

    async def _answer(self, request: CallRequest, key: str) -> CallResult:
        if key in self._answers:
            return self._answers[key]
        behaviours = self._behaviours[request.agent.id] or [success()]
        number = min(self._sends_of[request.agent.id], len(behaviours) - 1)
        self._sends_of[request.agent.id] += 1
        behaviour = behaviours[number]
        if isinstance(behaviour, Exception):
            raise behaviour
        result = behaviour if isinstance(behaviour, CallResult) else await behaviour(request)
        if result.status is CallStatus.SUCCESS:
            self._answers[key] = result
            self.effects[key] += 1
        return result


def _key(request: CallRequest) -> str:
    return idempotency_key(request.task_id, step=request.step, call=request.call)


def success(**output: JsonValue) -> CallResult:
    return CallResult(status=CallStatus.SUCCESS, output=output, duration_ms=1)


def error(text: str = "broken", *, retryable: bool = False, was_sent: bool = True) -> CallResult:
    return CallResult(status=CallStatus.ERROR, error=text, retryable=retryable, was_sent=was_sent)


def accepted() -> CallResult:
    return CallResult(status=CallStatus.ACCEPTED)


def after(event: asyncio.Event, result: CallResult) -> Behaviour:
    """The result, but not before the event."""

    async def answer(_: CallRequest) -> CallResult:
        await event.wait()
        return result

    return answer


def agent(agent_id: str, *fields: str, effects: Effects = "idempotent") -> Agent:
    """An agent that can add these fields."""
    properties: JsonObject = {name: {} for name in fields}
    return Agent(
        id=AgentId(agent_id),
        name=agent_id,
        description=f"The agent {agent_id}.",
        endpoint="http://agent.invalid",
        output_schema={"type": "object", "properties": properties},
        effects=effects,
    )
