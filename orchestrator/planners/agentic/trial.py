"""Two turns of a task that the model completes by calling tools: whether an endpoint can plan.

They are requests as every task sends them, with the same prompt and tools, and they spend tokens.
The second one holds the first answer: some endpoints refuse only that.
"""

from dataclasses import replace
from datetime import UTC, datetime

from langchain_core.language_models import BaseChatModel

from orchestrator.domain.agent import Agent
from orchestrator.domain.context import Context
from orchestrator.domain.decision import Turn, Usage
from orchestrator.domain.ids import Epoch, Seq, TaskId, TaskKey
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import Accepted, Decided, Step
from orchestrator.domain.task import Task
from orchestrator.planners.agentic.planner import AgenticPlanner
from orchestrator.planners.chat.options import ModelOptions

_DESCRIPTION = "The order number is 4711. Write it down as order_number."
_CREATED_AT = datetime(2026, 1, 1, tzinfo=UTC)
"""Any: the prompt does not hold it."""


class _NoAgents:
    async def agents(self, _: str) -> tuple[Agent, ...]:
        return ()


def _snapshot() -> Snapshot:
    context = Context(required_fields=("order_number",))
    accepted = Accepted(description=_DESCRIPTION)
    return Snapshot(
        task=Task(
            key=TaskKey(0),
            task_id=TaskId("doctor"),
            description=_DESCRIPTION,
            created_at=_CREATED_AT,
        ),
        epoch=Epoch(0),
        context=context,
        steps=(Step(seq=Seq(1), body=accepted, change=context.to_json()),),
    )


async def try_model(model: BaseChatModel, *, options: ModelOptions) -> Turn:
    """The first turn, with what both spent; one that `is_repair` called no tool as declared.

    Raises:
        ModelFailed: one of them was not answered.
    """
    planner = AgenticPlanner(model, catalogue=_NoAgents(), model_options=options)
    snapshot = _snapshot()
    turn = await planner.plan(snapshot)
    if turn.is_repair:
        return turn
    decided = Decided(decision=turn.decision, message=turn.message, replies=turn.replies)
    step = Step(seq=Seq(2), body=decided, change={"collected_data": turn.collected})
    second = await planner.plan(snapshot.after([step]))
    usage = Usage(
        input_tokens=turn.usage.input_tokens + second.usage.input_tokens,
        output_tokens=turn.usage.output_tokens + second.usage.output_tokens,
    )
    return replace(turn, usage=usage, duration_ms=turn.duration_ms + second.duration_ms)
