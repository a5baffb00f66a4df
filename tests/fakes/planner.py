"""A planner that says what a test wrote down, and remembers what it was asked."""

import inspect
from collections import Counter
from collections.abc import Awaitable, Callable

from orchestrator.domain.call import Call
from orchestrator.domain.decision import Complete, Delegate, Fail, Turn, Usage, Wait
from orchestrator.domain.ids import AgentId, Seq, TaskId
from orchestrator.domain.json import JsonObject
from orchestrator.domain.snapshot import Snapshot

Line = Turn | Exception | Callable[[Snapshot], Turn | Awaitable[Turn]]
"""One answer: a turn, an error to raise, or a function of the snapshot."""


class ScriptedPlanner:
    """Each task goes through the lines from the first on; who asks beyond the last is an error."""

    def __init__(self, *lines: Line) -> None:
        self._lines = lines
        self._own: dict[TaskId, tuple[Line, ...]] = {}
        self.snapshots: list[Snapshot] = []
        self.asks: Counter[tuple[TaskId, Seq]] = Counter()
        """How often it was asked after which step of which task."""

    def script(self, task_id: str, *lines: Line) -> None:
        """Lines for one task alone."""
        self._own[TaskId(task_id)] = lines

    def asked(self, task_id: str) -> int:
        return sum(n for (task, _), n in self.asks.items() if task == task_id)

    async def plan(self, snapshot: Snapshot) -> Turn:
        task_id = snapshot.task.task_id
        lines, number = self._own.get(task_id, self._lines), self.asked(task_id)
        self.snapshots.append(snapshot)
        self.asks[task_id, snapshot.seq] += 1
        assert number < len(lines), f"{task_id} asks a time too often, after step {snapshot.seq}"
        line = lines[number]
        if isinstance(line, Exception):
            raise line
        if isinstance(line, Turn):
            return line
        said = line(snapshot)
        return await said if inspect.isawaitable(said) else said


def delegate(*agents: str, tokens: int = 0, **values: JsonObject) -> Turn:
    """Calls of these agents side by side; `values` are their inputs by agent."""
    calls = tuple(
        Call(number=n, agent=AgentId(agent), input=values.get(agent, {}))
        for n, agent in enumerate(agents, 1)
    )
    return Turn(decision=Delegate(calls=calls), usage=Usage(input_tokens=tokens))


def wait(waiting_for: str = "the customer", **fields: object) -> Turn:
    return Turn(decision=Wait(waiting_for=waiting_for, **fields))  # type: ignore[arg-type]


def complete(**result: object) -> Turn:
    return Turn(decision=Complete(result=dict(result)))  # type: ignore[arg-type]


def fail(reason: str = "can't be done") -> Turn:
    return Turn(decision=Fail(reason=reason))
