"""The gate before the model: what its target makes of a failed turn."""

import pytest

from orchestrator.agents.targets import Targets
from orchestrator.domain.agent import Limits
from orchestrator.domain.decision import Turn
from orchestrator.domain.errors import ModelFailed, NotNow
from orchestrator.domain.fault import Fault
from orchestrator.domain.snapshot import Snapshot
from orchestrator.planners.gated import GatedPlanner
from tests.unit.planners.journal import new_task


async def test_a_wish_is_kept_where_failures_opened_the_breaker_meanwhile() -> None:
    target = Targets().model("openai:m", Limits())

    class Limited:
        """Is told to come back in ten minutes while five turns beside it fail."""

        async def plan(self, snapshot: Snapshot) -> Turn:
            for _ in range(5):
                async with target.entered(is_retry=False) as beside:
                    beside.report(Fault.FAILED)
            raise ModelFailed("429", retryable=True, retry_after_seconds=600.0, fault=Fault.LIMITED)

    with pytest.raises(NotNow) as refused:
        await GatedPlanner(Limited(), target).plan(new_task())
    assert refused.value.seconds >= 599
