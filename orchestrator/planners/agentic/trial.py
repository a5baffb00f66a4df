"""One turn of a task that the model completes by calling a tool: whether an endpoint can plan.

It is a request as every task sends it, with the same prompt and tools, and it spends tokens.
"""

from datetime import UTC, datetime

from langchain_core.language_models import BaseChatModel

from orchestrator.domain.agent import Agent
from orchestrator.domain.context import Context
from orchestrator.domain.decision import Turn
from orchestrator.domain.ids import Epoch, Seq, TaskId, TaskKey
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import Accepted, Step
from orchestrator.domain.task import Task
from orchestrator.planners.agentic.options import ModelOptions
from orchestrator.planners.agentic.planner import AgenticPlanner

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
    """What the model makes of it; a turn that `is_repair` called no tool, or not as declared.

    Raises:
        ModelFailed: there was no answer.
    """
    planner = AgenticPlanner(model, catalogue=_NoAgents(), model_options=options)
    return await planner.plan(_snapshot())
