"""Calls as the engine makes them, with a caller that gives one answer."""

from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator.agents.agent import CallRequest
from orchestrator.agents.targets import Targets
from orchestrator.domain.agent import Agent
from orchestrator.domain.call import Call, CallResult, CallStatus
from orchestrator.domain.context import Context
from orchestrator.domain.ids import AgentId, Epoch, Seq, TaskId, TaskKey
from orchestrator.domain.retry import RetryPolicy
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import CallFinished
from orchestrator.domain.task import Task
from orchestrator.engine.call_states import DueCall
from orchestrator.engine.calls import Calls, Outcome
from orchestrator.engine.clock import boot_seconds
from orchestrator.engine.lease import Lease
from orchestrator.engine.options import EngineOptions

NOW = datetime(2030, 1, 1, tzinfo=UTC)
CRM = Agent(
    id=AgentId("crm"),
    name="CRM",
    description="Keeps customers.",
    endpoint="http://crm.invalid",
    output_schema={"type": "object", "properties": {"customer_id": {}}},
)
MAIL = Agent(
    id=AgentId("mail"),
    name="Mail",
    description="Sends letters.",
    endpoint="http://mail.invalid",
    effects="at_most_once",
    status_url="http://mail.invalid/status",
    output_schema={"type": "object", "properties": {"sent": {}}},
)
OPTIONS = EngineOptions(
    worker_name="w",
    async_result_timeout=timedelta(hours=2),
    agent_retry=RetryPolicy(max_attempts=3, base_seconds=2.0, cap_seconds=60.0),
)


class FixedCaller:
    """Gives one answer to calls and one to questions for a call's status, and keeps both."""

    def __init__(self, answer: CallResult | None = None, known: CallResult | None = None) -> None:
        self._answer = answer or success()
        self._known = known
        self.calls: list[CallRequest] = []
        self.questions: list[CallRequest] = []

    async def call(self, request: CallRequest) -> CallResult:
        self.calls.append(request)
        return self._answer

    async def cancel(self, request: CallRequest) -> bool:
        raise AssertionError("nothing is cancelled here")

    async def status(self, request: CallRequest) -> CallResult | None:
        self.questions.append(request)
        return self._known

    @property
    def traffic(self) -> tuple[int, int]:
        """Calls, questions."""
        return len(self.calls), len(self.questions)


def success(**output: Any) -> CallResult:
    return CallResult(status=CallStatus.SUCCESS, output=output)


def failure(error: str = "busy", *, retryable: bool = True, **more: Any) -> CallResult:
    return CallResult(status=CallStatus.ERROR, error=error, retryable=retryable, **more)


def calls_of(caller: FixedCaller, *, targets: Targets | None = None) -> Calls:
    lease = Lease(timedelta(minutes=5))
    lease.renew(boot_seconds())
    return Calls(
        caller=caller,
        targets=targets or Targets(),
        lease=lease,
        options=OPTIONS,
        now=lambda: NOW,
        jitter=lambda: 0.5,
    )


async def silently() -> bool:
    """Journals nothing."""
    return True


async def made(caller: FixedCaller, call: DueCall, agent: Agent) -> Outcome:
    outcome = await calls_of(caller).make(call, snapshot(), agent, announce=silently)
    assert outcome is not None
    return outcome


def snapshot(deadline: datetime | None = None) -> Snapshot:
    task = Task(
        key=TaskKey(1),
        task_id=TaskId("t-1"),
        description="d",
        created_at=NOW,
        deadline=deadline,
        traceparent="00-a-b-01",
    )
    return Snapshot(task=task, epoch=Epoch(7), context=Context())


def due(of: Agent = CRM, *, attempt: int = 1, was_started: bool = False) -> DueCall:
    call = Call(number=1, agent=of.id, input={"name": "ACME"})
    return DueCall(step=Seq(3), call=call, attempt=attempt, was_started=was_started)


async def outcome(answer: CallResult, **more: Any) -> Outcome:
    """Of a call that the CRM answers like this; `more` are arguments of `due`."""
    return await made(FixedCaller(answer), due(**more), CRM)


async def mailed(caller: FixedCaller, *, was_started: bool = False) -> Outcome:
    """Of a call of the agent whose effects can't be repeated."""
    return await made(caller, due(MAIL, was_started=was_started), MAIL)


def finished(status: str, *, of: Agent = CRM, **more: Any) -> CallFinished:
    return CallFinished(step=Seq(3), call=1, agent=of.id, status=CallStatus(status), **more)
