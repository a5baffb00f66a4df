"""The seam between the engine and whoever decides."""

from typing import Protocol

from orchestrator.domain.decision import Turn
from orchestrator.domain.snapshot import Snapshot


class Planner(Protocol):
    """Decides what a task does next. It journals nothing and calls no agent."""

    async def plan(self, snapshot: Snapshot) -> Turn:
        """One turn for this snapshot.

        Raises:
            ModelFailed: there is no answer; `retryable` says whether asking later may help.
        """
        ...
