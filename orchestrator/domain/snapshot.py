"""A task at one moment: what a planner and the runner see of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestrator.domain.budget import UNBOUNDED, Allowance
from orchestrator.domain.context import Context
from orchestrator.domain.ids import Epoch, Seq
from orchestrator.domain.step import Forked, Retried, Step
from orchestrator.domain.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything a decision may depend on; two equal snapshots deserve the same prompt."""

    task: Task
    epoch: Epoch
    context: Context
    steps: tuple[Step, ...] = ()
    """The journal so far, in order."""

    allowance: Allowance = UNBOUNDED
    """What is left for the planner's next turn."""

    @property
    def seq(self) -> Seq:
        return self.steps[-1].seq if self.steps else Seq(0)

    def after(self, steps: Sequence[Step]) -> "Snapshot":
        """The snapshot with these steps journaled and their changes applied."""
        context = self.context
        for step in steps:
            context = context.apply(step.change)
        return replace(self, context=context, steps=(*self.steps, *steps))

    @property
    def current_run(self) -> tuple[Step, ...]:
        """The steps that limits count: all, or those since a person retried or forked the task."""
        for index in range(len(self.steps) - 1, -1, -1):
            if isinstance(self.steps[index].body, Retried | Forked):
                return self.steps[index:]
        return self.steps
