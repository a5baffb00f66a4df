"""What an HTTP answer means, without I/O: which status and which body is which `CallResult`."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator.agents.http import retry_after_seconds, status_fault
from orchestrator.agents.schemas import violations
from orchestrator.domain.agent import Agent
from orchestrator.domain.call import CallResult, CallStatus
from orchestrator.domain.errors import AgentFailed, UnusableAnswer
from orchestrator.domain.json import UnreadableJson, path_text, read_json

MAX_DETAIL = 300

_RETRYABLE = frozenset({408, 425, 429})
_STATUS = {
    "success": CallStatus.SUCCESS,
    "error": CallStatus.ERROR,
    "input_required": CallStatus.INPUT_REQUIRED,
}


class _Answer(BaseModel):
    """The body of a 2xx answer; further fields are allowed and ignored."""

    model_config = ConfigDict(strict=True)

    status: Literal["success", "error", "input_required"]
    # Depth and size are already bounded, so the values need no walk of their own.
    output: dict[str, Any] | None = Field(default=None)
    error_message: str | None = None
    retryable: bool | None = None
    usage: dict[str, Any] | None = None


def is_retryable(status: int, *, has_retry_after: bool) -> bool:
    """Whether the same request may succeed later; 409 only where the agent says when."""
    return status in _RETRYABLE or status >= 500 or (status == 409 and has_retry_after)


def result_of(body: bytes, *, agent: Agent, max_depth: int) -> CallResult:
    """The result in the body of a 2xx answer; raises `UnusableAnswer` when it keeps no contract."""
    try:
        answer = _Answer.model_validate(read_json(body, max_depth=max_depth))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UnusableAnswer(
            f"agent {agent.id!r} answered something else than the contract: "
            f"{path_text(first['loc']) or 'body'}: {first['msg']}"
        ) from error
    except UnreadableJson as error:
        raise UnusableAnswer(
            f"agent {agent.id!r} answered a body that can't be used: {error}"
        ) from error
    output = answer.output or {}
    wrong = violations(agent.output_schema, output) if answer.status == "success" else []
    if wrong:
        raise UnusableAnswer(
            f"agent {agent.id!r} answered an output against its schema: {'; '.join(wrong)}"
        )
    return CallResult(
        status=_STATUS[answer.status],
        output=output,
        error=_error_text(answer, agent=agent),
        retryable=answer.status == "error" and bool(answer.retryable),
        usage=answer.usage,
    )


def _error_text(answer: _Answer, *, agent: Agent) -> str | None:
    if answer.status == "success":
        return None
    return answer.error_message or f"agent {agent.id!r} said {answer.status!r}, and nothing more"


def refusal(
    status: int, *, agent: Agent, retry_after: str | None, body: bytes, now: datetime
) -> AgentFailed:
    """The failure that an answer with any other status than 2xx is."""
    wait = retry_after_seconds(retry_after, now=now)
    retryable = is_retryable(status, has_retry_after=wait is not None)
    said = _detail(body)
    hint = "; redirects are not followed" if 300 <= status < 400 else ""
    return AgentFailed(
        f"agent {agent.id!r} answered HTTP {status}{hint}{f': {said}' if said else ''}",
        retryable=retryable,
        retry_after_seconds=wait if retryable else None,
        fault=status_fault(status, has_retry_after=wait is not None),
    )


def _detail(body: bytes) -> str:
    """The words for people in an error's body: our contract's, RFC 9457's, FastAPI's, or text."""
    try:
        value = read_json(body, max_depth=16)
    except UnreadableJson:
        value = None
    if isinstance(value, dict):
        for name in ("error_message", "detail", "message", "title", "error"):
            if isinstance(text := value.get(name), str) and text:
                return text[:MAX_DETAIL]
    return " ".join(body.decode(errors="replace").replace("\0", "\ufffd").split())[:MAX_DETAIL]
