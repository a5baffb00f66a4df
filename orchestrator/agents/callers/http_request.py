"""The request of a call, without I/O: its body, its headers and their signature."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from urllib.parse import quote

import orjson

from orchestrator.agents.agent import CallRequest
from orchestrator.agents.bodies import ACCEPT_ENCODING
from orchestrator.agents.signature import secret_key, signature_headers
from orchestrator.domain.errors import AgentFailed, InvalidAgent
from orchestrator.domain.ids import idempotency_key

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_PLAIN = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")
_PLAIN_TEXT = re.compile(f"[{re.escape(_PLAIN)}]+")


def request_content(request: CallRequest) -> bytes:
    """The body; raises `AgentFailed` where the input is no JSON."""
    body = {
        "execution_id": request.task_id,
        "node_id": f"{request.step}/{request.call}",
        "input": request.input,
        "config": request.agent.config,
    }
    if request.compensates is not None:
        body["compensates"] = request.compensates
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError as error:
        raise AgentFailed(
            f"the input of agent {request.agent.id!r} can't be written as JSON: {error}",
            retryable=False,
        ) from error


def cancel_content(request: CallRequest) -> bytes:
    """The body for an agent's `cancel_url`: which call it is."""
    return orjson.dumps(
        {"execution_id": request.task_id, "node_id": f"{request.step}/{request.call}"}
    )


def header_key(request: CallRequest) -> str:
    """The idempotency key as a header can carry it.

    A task id may hold anything; what no header carries, and `%` itself, is percent-encoded, so two
    ids never become one key. Agents store it: never change it.
    """
    key = idempotency_key(request.task_id, step=request.step, call=request.call)
    return key if _PLAIN_TEXT.fullmatch(key) else quote(key, safe=_PLAIN)


def request_headers(
    request: CallRequest, *, content: bytes, now: datetime, environ: Mapping[str, str]
) -> dict[str, str]:
    """All headers; raises `AgentFailed` where the agent's signing secret is missing or unusable."""
    key = header_key(request)
    deadline = now + timedelta(seconds=request.timeout_seconds)
    headers = {
        "Accept": "application/json",
        "Accept-Encoding": ACCEPT_ENCODING,
        "Content-Type": "application/json",
        "User-Agent": "orchestrator",
        "Idempotency-Key": key,
        "X-Task-Epoch": str(request.epoch),
        "X-Deadline": deadline.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
    # It came with a Kafka message: whoever wrote that must not write headers of ours.
    if request.traceparent and _TRACEPARENT.fullmatch(request.traceparent):
        headers["traceparent"] = request.traceparent
    if request.agent.secret_env is not None:
        headers |= signature_headers(
            _secret(request.agent.secret_env, environ=environ, agent_id=request.agent.id),
            message_id=key,
            timestamp=int(now.timestamp()),
            body=content,
        )
    return headers


def _secret(variable: str, *, environ: Mapping[str, str], agent_id: str) -> bytes:
    try:
        return secret_key(variable, environ.get(variable, ""))
    except InvalidAgent as error:
        raise AgentFailed(
            f"the request to agent {agent_id!r} can't be signed: {error}", retryable=False
        ) from error
