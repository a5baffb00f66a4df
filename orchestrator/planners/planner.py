"""The seam between the engine and whoever decides."""

from dataclasses import dataclass
from typing import Protocol

from orchestrator.domain.budget import Resource
from orchestrator.domain.decision import Turn, Usage
from orchestrator.domain.errors import ModelFailed, OrchestratorError
from orchestrator.domain.ids import Seq, TaskId
from orchestrator.domain.json import JsonObject
from orchestrator.domain.snapshot import Snapshot


class OverBudget(OrchestratorError):
    """The turn may need more than the snapshot allows: nothing was asked."""

    code = "over_budget"

    def __init__(self, resource: Resource, *, needed: int, left: int) -> None:
        super().__init__(f"{resource}: {needed} needed, {left} left")
        self.resource = resource
        self.needed = needed
        self.left = left


class Unanswered(ModelFailed):
    """The turn was asked and its answer got lost: its task is charged with what it may have used.

    The provider may have worked on it, and bills that; nobody told how much it was.
    """

    def __init__(self, failed: ModelFailed, *, usage: Usage, cost_micros: int) -> None:
        super().__init__(
            str(failed),
            retryable=failed.retryable,
            retry_after_seconds=failed.retry_after_seconds,
            fault=failed.fault,
        )
        self.usage = usage
        self.cost_micros = cost_micros


class Planner(Protocol):
    """Decides what a task does next. It journals nothing and calls no agent."""

    async def plan(self, snapshot: Snapshot) -> Turn:
        """One turn for this snapshot.

        Raises:
            OverBudget: it may need more than `snapshot.allowance`; nothing was asked.
            ModelFailed: there is no answer; `retryable` says whether asking later may help.
                `Unanswered` where it may be billed all the same.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptMessage:
    role: str
    """`system`, `human`, `ai` or `tool`."""
    text: str
    tool_calls: tuple[JsonObject, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptShown:
    """One turn for whoever watches: what the model was shown, and what was made of its answer."""

    task_id: TaskId
    step: Seq
    """The number that the decision gets in the journal."""
    messages: tuple[PromptMessage, ...]
    tools: tuple[str, ...]
    turn: Turn
