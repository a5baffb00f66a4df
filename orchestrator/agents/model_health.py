"""Asks an OpenAI-compatible endpoint whether it lets us in, without spending a token."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httpx

from orchestrator.agents.http import TRANSPORT_ERRORS, model_http_client
from orchestrator.domain.json import read_json

MAX_BODY_BYTES = 4_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelHealth:
    problem: str | None = None
    """Why no model can be asked there; None where nothing speaks against it."""
    doubt: str | None = None
    """What may be wrong with the address: it answers, but not as an OpenAI-compatible endpoint."""
    lists_model: bool | None = None
    """Whether the model is among those that the endpoint offers; None where it does not say."""


async def model_health(
    *,
    base_url: str,
    api_key: str | None,
    name: str,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_seconds: float = 5.0,
) -> ModelHealth:
    """What `GET {base_url}/models` says. Never raises for what the endpoint does.

    `base_url` has no query, so that it can be shown; `query` and `headers` go with the request.
    """
    key = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    try:
        async with (
            asyncio.timeout(timeout_seconds),
            model_http_client(timeout_seconds=timeout_seconds) as client,
        ):
            answer = await client.get(
                f"{base_url.rstrip('/')}/models",
                params=query or {},
                headers={**key, **(headers or {})},
            )
    except TimeoutError:
        return ModelHealth(problem=f"{base_url} did not answer within {timeout_seconds:g} s")
    except TRANSPORT_ERRORS as error:
        return ModelHealth(problem=f"{base_url} can't be reached: {error or type(error).__name__}")
    return _judged(answer, base_url=base_url, name=name)


def _judged(answer: httpx.Response, *, base_url: str, name: str) -> ModelHealth:
    if answer.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return ModelHealth(problem=f"{base_url} refuses the key (HTTP {answer.status_code})")
    if answer.is_server_error:
        return ModelHealth(problem=f"{base_url} answers HTTP {answer.status_code}")
    if not answer.is_success:
        # Some endpoints offer chats and no list, so it is no failure.
        return _doubtful(base_url, f"answers HTTP {answer.status_code}")
    if len(answer.content) > MAX_BODY_BYTES:
        return ModelHealth()
    try:
        listed: Any = read_json(answer.content)
        offered = {model["id"] for model in listed["data"]}
    except (ValueError, TypeError, KeyError):
        return _doubtful(base_url, "answers with something else than a list of models")
    return ModelHealth(lists_model=name in offered)


def _doubtful(base_url: str, what: str) -> ModelHealth:
    # One of Azure's deployments is a model: it has no list of them.
    hint = "" if "/deployments/" in base_url else ": does OPENAI_BASE_URL end in /v1?"
    return ModelHealth(doubt=f"{base_url}/models {what}{hint}")
