"""A planner that says what a test wrote down, and remembers what it was asked."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

from orchestrator.domain.call import Call
from orchestrator.domain.decision import Complete, Decision, Delegate, Turn
from orchestrator.domain.ids import AgentId, TaskId
from orchestrator.domain.json import JsonObject
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import AttemptFailed, BudgetSpent, Decided

Answer = Turn | Decision | Exception | Callable[[Snapshot], Awaitable["Turn | Decision"]]
"""What it says in one turn; a coroutine function may wait for something first."""


class ScriptedPlanner:
    """Answers by what the task's journal already holds of its answers.

    So a task that goes on elsewhere is answered as a model would answer it, however often it was
    asked before. Several workers may share it.
    """

    def __init__(
        self, *script: Answer, by_task: dict[str, tuple[Answer, ...]] | None = None
    ) -> None:
        """`script` is for every task that has none of its own in `by_task`."""
        self.script = script
        self._by_task = by_task or {}
        self.asks: Counter[tuple[TaskId, int]] = Counter()
        """By task and number of decisions in its journal."""
        self.snapshots: dict[str, list[Snapshot]] = defaultdict(list)

    async def plan(self, snapshot: Snapshot) -> Turn:
        task_id = snapshot.task.task_id
        decisions = [s.body for s in snapshot.steps if isinstance(s.body, Decided)]
        failures = [s.body for s in snapshot.steps if is_turn_without_decision(s.body)]
        self.asks[task_id, len(decisions)] += 1
        self.snapshots[task_id].append(snapshot)
        script = self._by_task.get(task_id, self.script)
        answer = script[len(decisions) + len(failures)]
        if isinstance(answer, Exception):
            raise answer
        said = await answer(snapshot) if callable(answer) else answer
        return said if isinstance(said, Turn) else Turn(decision=said)

    @property
    def repeated(self) -> dict[tuple[TaskId, int], int]:
        """What it was asked more than once without a new decision in the journal."""
        return {ask: times for ask, times in self.asks.items() if times > 1}


def is_turn_without_decision(body: Any) -> bool:
    is_model_failure = isinstance(body, AttemptFailed) and body.step is None
    return is_model_failure or isinstance(body, BudgetSpent)


def delegate(*agents: str, **input: Any) -> Delegate:  # noqa: A002 - the contract's own word
    """One call to each of these agents, all with the same input."""
    return Delegate(
        calls=tuple(
            Call(number=number, agent=AgentId(agent), input=dict(input))
            for number, agent in enumerate(agents, 1)
        )
    )


def slow(answer: Decision, *, seconds: float) -> Answer:
    """A turn that takes its time, as a model's does."""

    async def think(_: Snapshot) -> Turn:
        await asyncio.sleep(seconds)
        return Turn(decision=answer)

    return think


def complete(result: JsonObject | None = None) -> Complete:
    return Complete(result=result or {})


class Hanging:
    """A model that never says anything."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.is_cut = asyncio.Event()

    async def __call__(self, _snapshot: Snapshot) -> Turn | Delegate:
        self.asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.is_cut.set()
        raise AssertionError("it never ends")
