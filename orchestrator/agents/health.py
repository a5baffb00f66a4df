"""Asks an agent whether it is ready, for people who want to know before a task finds out."""

import asyncio
import time
from dataclasses import dataclass
from http import HTTPStatus

from pydantic import BaseModel

from orchestrator.agents.bodies import ACCEPT_ENCODING, read_body
from orchestrator.agents.http import AgentHttpClient, agent_errors
from orchestrator.domain.agent import Agent
from orchestrator.domain.errors import AgentFailed
from orchestrator.domain.json import read_json

MAX_BODY_BYTES = 65_536
MAX_DEPTH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentHealth:
    ready: bool
    version: str | None = None
    capabilities: tuple[str, ...] = ()
    error: str | None = None
    """Why it is not ready, where it did not say so itself."""
    duration_ms: int = 0


class _Answer(BaseModel):
    ready: bool
    version: str | None = None
    capabilities: tuple[str, ...] = ()


async def health(
    client: AgentHttpClient, agent: Agent, *, timeout_seconds: float = 5.0
) -> AgentHealth:
    """What `GET {endpoint}/health` says. Never raises for what the agent does."""
    started = time.perf_counter()
    answer, problem = _Answer(ready=False), None
    try:
        async with asyncio.timeout(timeout_seconds):
            with agent_errors(agent.id):
                answer = await _ask(client, agent, within_seconds=timeout_seconds)
    except TimeoutError:
        problem = f"agent {agent.id!r} did not answer within {timeout_seconds:g} s"
    except AgentFailed as error:
        problem = str(error)
    return AgentHealth(
        ready=answer.ready,
        version=answer.version,
        capabilities=answer.capabilities,
        error=problem,
        duration_ms=round((time.perf_counter() - started) * 1000),
    )


async def _ask(client: AgentHttpClient, agent: Agent, *, within_seconds: float) -> _Answer:
    url = f"{agent.endpoint}/health"
    async with client.exchange(
        "GET", url, headers={"Accept-Encoding": ACCEPT_ENCODING}, within_seconds=within_seconds
    ) as response:
        body = await read_body(response, agent_id=agent.id, max_bytes=MAX_BODY_BYTES)
        try:
            answer = _Answer.model_validate(read_json(body, max_depth=MAX_DEPTH))
        except ValueError as error:
            raise _unexpected(agent, url, response.status_code) from error
        # That it is not ready it may say with any status, as load balancers want it.
        if answer.ready and response.status_code != HTTPStatus.OK:
            raise _unexpected(agent, url, response.status_code)
        return answer


def _unexpected(agent: Agent, url: str, status: int) -> AgentFailed:
    return AgentFailed(
        f"agent {agent.id!r} answered HTTP {status} to GET {url}; "
        'expected 200 with {"ready": true, "version": …, "capabilities": […]}',
        retryable=True,
    )
