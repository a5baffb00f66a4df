"""What the runners of a worker have in common."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from orchestrator.domain.agent import Agent
from orchestrator.domain.event import InboxMessage
from orchestrator.domain.ids import TaskKey
from orchestrator.engine.calls import Calls
from orchestrator.engine.journal import Journal
from orchestrator.engine.lease import Lease
from orchestrator.engine.options import EngineOptions
from orchestrator.planners.planner import Planner

Unread = Callable[[TaskKey], Awaitable[tuple[tuple[InboxMessage, ...], int]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What every runner of a worker shares."""

    planner: Planner
    agents: Callable[[str], Awaitable[Sequence[Agent]]]
    """The agents of a tenant, as declared at this moment."""
    calls: Calls
    journal: Journal
    lease: Lease
    options: EngineOptions
    unread: Unread
    now: Callable[[], datetime]
    rested: Callable[[datetime | None], None]
    """Told of each rest, with the time at which the task has to be looked at again."""
    parked: Callable[[Sequence[str]], None]
    """Told, after the rest, for which agents and models a task waits."""
