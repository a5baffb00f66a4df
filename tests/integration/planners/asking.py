"""The planner at an endpoint on loopback, through the real client: a turn, or its failure."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from orchestrator.agents.http import model_http_client
from orchestrator.domain.budget import Allowance, Budget
from orchestrator.domain.errors import ModelFailed
from orchestrator.domain.snapshot import Snapshot
from orchestrator.planners.agentic.planner import AgenticPlanner
from orchestrator.planners.chat.model import build_model
from orchestrator.planners.chat.options import ModelOptions
from tests.unit.planners.journal import AGENTS, FixedCatalogue, new_task

KEY = "sk-very-secret-0123456789"


@asynccontextmanager
async def planning_at(url: str, *, timeout_seconds: float = 10.0) -> AsyncIterator[AgenticPlanner]:
    options = ModelOptions(
        model="openai:gpt-4.1-mini", base_url=url, api_key=KEY, timeout_seconds=timeout_seconds
    )
    async with model_http_client(timeout_seconds=timeout_seconds) as client:
        yield AgenticPlanner(
            build_model(options, client=client),
            catalogue=FixedCatalogue(*AGENTS),
            model_options=options,
        )


async def failure_at(
    url: str, *, timeout_seconds: float = 10.0, task: Snapshot | None = None
) -> ModelFailed:
    async with planning_at(url, timeout_seconds=timeout_seconds) as planner:
        with pytest.raises(ModelFailed) as caught:
            await planner.plan(task or new_task())
    assert KEY not in str(caught.value)
    assert "gpt-4.1-mini" in str(caught.value)
    return caught.value


def with_budget(tokens: int) -> Snapshot:
    snapshot = new_task()
    task = replace(snapshot.task, budget=Budget(tokens=tokens))
    return replace(snapshot, task=task, allowance=Allowance(tokens=tokens))
