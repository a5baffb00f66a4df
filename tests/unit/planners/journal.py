"""Agents, tasks and journals as planners meet them, for the tests of planners."""

from datetime import UTC, datetime

from orchestrator.domain.agent import Agent
from orchestrator.domain.call import CallStatus
from orchestrator.domain.context import Context, collected
from orchestrator.domain.decision import Delegate, Turn
from orchestrator.domain.ids import AgentId, Epoch, Seq, TaskId, TaskKey
from orchestrator.domain.json import JsonObject
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import (
    Accepted,
    CallFinished,
    Decided,
    EventApplied,
    Retried,
    Step,
    StepBody,
)
from orchestrator.domain.task import Task

TEXT: JsonObject = {"type": "string"}


def make_agent(
    agent_id: str,
    *,
    description: str = "",
    takes: JsonObject | None = None,
    needs: tuple[str, ...] = (),
    adds: tuple[str, ...] = (),
    capabilities: tuple[str, ...] = (),
) -> Agent:
    return Agent(
        id=AgentId(agent_id),
        name=agent_id.upper(),
        description=description,
        endpoint="http://agent.invalid",
        capabilities=capabilities,
        input_schema={"type": "object", "required": list(needs), "properties": takes or {}},
        output_schema={"type": "object", "properties": dict.fromkeys(adds, TEXT)},
    )


CRM = make_agent(
    "crm",
    description="Registers customers.",
    takes={"name": TEXT, "country": TEXT},
    needs=("name",),
    adds=("customer_id",),
    capabilities=("customer.create",),
)
ACCOUNTS = make_agent(
    "accounts",
    description="Opens accounts.",
    takes={"customer_id": TEXT},
    needs=("customer_id",),
    adds=("account_number",),
    capabilities=("account.open",),
)
SCREENING = make_agent(
    "screening",
    description="Screens suppliers against lists.",
    takes={"customer_id": TEXT, "name": TEXT},
    needs=("customer_id", "name"),
    adds=("screening_result",),
)
CONTRACTS = make_agent(
    "contracts",
    description="Draws up contracts.",
    takes={"name": TEXT, "term_months": {"type": "integer"}},
    needs=("name",),
    adds=("contract_id",),
)
AGENTS = (ACCOUNTS, CONTRACTS, CRM, SCREENING)


class FixedCatalogue:
    """A catalogue of these agents, for every tenant."""

    def __init__(self, *agents: Agent) -> None:
        self.known = agents

    async def agents(self, tenant: str) -> tuple[Agent, ...]:
        return self.known


def new_task(
    description: str = "Register the customer ACME",
    *,
    required: tuple[str, ...] = ("customer_id",),
    event_data: JsonObject | None = None,
) -> Snapshot:
    """A task of which the message was applied, and nothing else."""
    context = Context(required_fields=required, event_data=event_data or {})
    task = Task(
        key=TaskKey(1),
        task_id=TaskId("task-1"),
        description=description,
        created_at=datetime(2030, 1, 1, tzinfo=UTC),
    )
    accepted = Step(seq=Seq(1), body=Accepted(description=description), change=context.to_json())
    return Snapshot(task=task, epoch=Epoch(1), context=context, steps=(accepted,))


def journaled(snapshot: Snapshot, body: StepBody, change: JsonObject | None = None) -> Snapshot:
    return snapshot.after([Step(seq=Seq(snapshot.seq + 1), body=body, change=change)])


def decided(snapshot: Snapshot, turn: Turn) -> Snapshot:
    """With the turn journaled as the engine does it."""
    body = Decided(
        decision=turn.decision,
        message=turn.message,
        replies=turn.replies,
        is_repair=turn.is_repair,
        usage=turn.usage,
    )
    return journaled(snapshot, body, {"collected_data": turn.collected} if turn.collected else None)


def answered(
    snapshot: Snapshot,
    number: int,
    output: JsonObject,
    *,
    status: CallStatus = CallStatus.SUCCESS,
    error: str | None = None,
) -> Snapshot:
    """With the result of a call of the latest decision."""
    step = next(s for s in reversed(snapshot.steps) if isinstance(s.body, Decided))
    assert isinstance(step.body, Decided)
    assert isinstance(step.body.decision, Delegate)
    body = CallFinished(
        step=step.seq,
        call=number,
        agent=step.body.decision.calls[number - 1].agent,
        status=status,
        output=output,
        error=error,
    )
    return journaled(snapshot, body, {"collected_data": collected(output, output)})


def event(snapshot: Snapshot, payload: JsonObject, *, event_type: str = "data") -> Snapshot:
    change = snapshot.context.event_change(payload, by="event")
    return journaled(snapshot, EventApplied(event_type=event_type, payload=payload), change)


def retried(snapshot: Snapshot) -> Snapshot:
    return journaled(snapshot, Retried())
