"""A planner whose model is asked only while it can be: paused, down or out of breath, it is not."""

from orchestrator.agents.target import Target
from orchestrator.domain.decision import Turn
from orchestrator.domain.errors import ModelFailed, NotNow
from orchestrator.domain.fault import Fault
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import AttemptFailed, Decided
from orchestrator.planners.planner import Planner

LEASE_SECONDS = 0.5
"""A heartbeat may be under way: its answer brings the lease back."""


class GatedPlanner:
    """`planners.planner.Planner` that asks its model through the gate of one target."""

    def __init__(self, planner: Planner, target: Target) -> None:
        self._planner = planner
        self._target = target

    async def plan(self, snapshot: Snapshot) -> Turn:
        """One turn.

        Raises:
            ModelFailed: there is no answer.
            NotNow: the model was not asked, or nobody was there to answer it.
        """
        try:
            async with self._target.entered(is_retry=_is_retry(snapshot)) as entry:
                turn = await self._planner.plan(snapshot)
                entry.report(None)
                return turn
        except ModelFailed as error:
            if not error.was_sent:
                # Held back here, by the lease that was lost: the next look comes with the lease.
                raise NotNow(
                    str(error), target=self._target.name, cause="lease", seconds=LEASE_SECONDS
                ) from error
            # Whatever was asked for, it would not have been answered: no try is spent.
            if error.fault in (Fault.UNAVAILABLE, Fault.LIMITED) and self._target.holds_back:
                refused = self._target.not_now()
                if refused is not None:
                    raise refused from error
            raise


def _is_retry(snapshot: Snapshot) -> bool:
    """Whether a turn failed since the last decision."""
    for step in reversed(snapshot.steps):
        if isinstance(step.body, Decided):
            return False
        if isinstance(step.body, AttemptFailed):
            return step.body.step is None
    return False
