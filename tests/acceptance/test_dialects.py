"""Endpoints that refuse what OpenAI's own takes, through a whole service: no task sees it."""

from collections.abc import Callable

import pytest

from orchestrator.planners.chat.model import REFUSED_PART
from tests.fakes import strict
from tests.fakes.llm import Refusal, Request
from tests.fixtures.service import Service

PORTAL = "/openai/deployments/planner/chat/completions?api-version=2024-10-21"

ENDPOINTS: dict[str, tuple[Callable[[Request], Refusal | None], str, dict[str, str], int]] = {
    "Mistral": (strict.mistral, "/v1", {"ORCHESTRATOR_MODEL_MAX_OUTPUT_TOKENS": "2000"}, 3),
    "DeepSeek, thinking": (strict.deepseek_thinking, "/v1", {}, 1),
    "Azure, as its portal shows it": (strict.azure_deployment, PORTAL, {}, 1),
    "codex behind a gateway": (
        strict.litellm,
        "/v1",
        {"LLM_MODEL": "openai:our-codex"},
        2,
    ),
    "responses": (lambda _: None, "/v1", {"ORCHESTRATOR_MODEL_DIALECT": "responses"}, 0),
}


@pytest.mark.parametrize(("rule", "path", "environ", "refusals"), ENDPOINTS.values(), ids=ENDPOINTS)
async def test_an_endpoint_that_refuses_something_by_name_costs_its_tasks_nothing(
    service: Service,
    rule: Callable[[Request], Refusal | None],
    path: str,
    environ: dict[str, str],
    refusals: int,
) -> None:
    await service.agent("crm", needs=["name"], adds={"customer_id": "C-1"})
    await service.agent("accounts", needs=["customer_id"], adds={"account_number": "A-1"})
    service.llm.refuses = rule
    worker = service.worker()
    url = service.llm.url.removesuffix("/v1") + path
    worker.environ |= {"OPENAI_BASE_URL": url, **environ}
    await worker.start()
    for task_id in ("first", "second"):
        await service.observer.task(
            task_id, "Register the customer ACME", "customer_id", "account_number"
        )
        await service.observer.reached(task_id, "completed")
        assert "attempt_failed" not in await service.observer.kinds(task_id)
    assert len(service.llm.refused) == len(worker.says(REFUSED_PART)) == refusals
