"""Translates what a model's client raises into `ModelFailed`: the one place that knows both.

LangChain's `ModelError` carries the provider-neutral classes; what lies outside of it (OpenAI's own
errors, an answer that is not JSON, a provider without the classes) is judged here.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from langchain_core.exceptions import (
    ContextOverflowError,
    LangChainException,
    ModelAuthenticationError,
    ModelError,
    ModelInvalidRequestError,
    ModelNotFoundError,
    ModelPermissionDeniedError,
    ModelTimeoutError,
)
from openai import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    NotFoundError,
    OpenAIError,
    PermissionDeniedError,
)

from orchestrator.agents.http import (
    TRANSPORT_ERRORS,
    is_held_back,
    is_unconnected,
    retry_after_seconds,
    status_fault,
)
from orchestrator.domain.errors import ModelFailed
from orchestrator.domain.fault import Fault
from orchestrator.planners.agentic.answer import storable_text
from orchestrator.planners.agentic.options import ModelOptions

_NOT_REACHED: tuple[type[Exception], ...] = (OSError, *TRANSPORT_ERRORS)
_SILENT = (*_NOT_REACHED, APIConnectionError, ModelTimeoutError)
_REFUSED_KEY = (ModelAuthenticationError, AuthenticationError)

MODEL_ERRORS: tuple[type[Exception], ...] = (
    LangChainException,
    OpenAIError,
    *_NOT_REACHED,
    # An answer that does not have the shape of one surfaces as one of these, from the client.
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RecursionError,
)
"""What an `ainvoke` may raise for what the other side did."""

_RETRYABLE_STATUS = frozenset({408, 409, 425, 429})
_MAX_DETAIL = 400

_TOO_LONG = (
    "context_length_exceeded",
    "exceeds the context window",
    "prompt is too long",
    "Input tokens exceed the configured limit",
    "ContextWindowExceededError",
)

_EXPLAINED: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    (_REFUSED_KEY, "the provider refused the API key: check it"),
    (
        (ModelPermissionDeniedError, PermissionDeniedError),
        "the API key may not use this model: check its rights",
    ),
    (
        (ModelNotFoundError, NotFoundError),
        "there is no such model, or no such endpoint: check LLM_MODEL and base URL",
    ),
    ((ModelInvalidRequestError, BadRequestError), "the provider refused the request"),
)


def model_failed(error: Exception, *, options: ModelOptions) -> ModelFailed:
    """The product's error for `error`; its text names the model and never holds the API key."""
    text = f"model {options.model!r}: {_explanation(error, options)}{_asked_path(error)}"
    wish = _wish(error)
    return ModelFailed(
        text,
        retryable=_is_retryable(error),
        retry_after_seconds=wish,
        fault=_fault(error, has_retry_after=wish is not None),
        was_sent=not is_held_back(error),
    )


def is_unanswered(error: Exception) -> bool:
    """Whether the request went out and nothing came back that tells what it used."""
    if is_held_back(error) or is_unconnected(error) or _status(error) is not None:
        return False
    return isinstance(error, (*_SILENT, json.JSONDecodeError))


def is_refused_request(error: Exception) -> bool:
    """Whether the endpoint found something wrong with the request itself."""
    return _is_too_long(error) or _status(error) in (400, 422)


def _explanation(error: Exception, options: ModelOptions) -> str:
    if _is_too_long(error):
        return f"the conversation is longer than the model's context ({_detail(error, options)})"
    for kinds, text in _EXPLAINED:
        if isinstance(error, kinds):
            # What providers say about a refused key quotes parts of it.
            is_quoting = isinstance(error, _REFUSED_KEY)
            return text if is_quoting else f"{text} ({_detail(error, options)})"
    if isinstance(error, TimeoutError | ModelTimeoutError | APITimeoutError):
        return f"no answer within {options.timeout_seconds:g} seconds"
    return f"{_what(error)} ({type(error).__name__}: {_detail(error, options)})"


def _is_too_long(error: Exception) -> bool:
    if isinstance(error, ContextOverflowError):
        return True
    # Servers of OpenAI's API say it by the code, or in words of their own.
    said = f"{error.code} {error.message}" if isinstance(error, APIError) else ""
    return any(words in said for words in _TOO_LONG)


def _what(error: Exception) -> str:
    status = _status(error)
    if status is not None:
        return f"it answered with status {status}"
    if isinstance(error, ModelError | APIConnectionError):
        return "no answer"
    if isinstance(error, _NOT_REACHED):
        return "can't be reached"
    return "its answer can't be read"


def _detail(error: Exception, options: ModelOptions) -> str:
    # The connection's own error says more than the client's "Connection error.".
    cause = error.__cause__ if _status(error) is None else None
    while cause is not None and cause.__cause__ is not None:
        cause = cause.__cause__
    text = str(error) if cause is None or not str(cause) else f"{error} {cause}"
    # The key goes before the end does: half of it would not be known again.
    line = " ".join(storable_text(_without(options.api_key, text)).split())
    return line if len(line) <= _MAX_DETAIL else f"{line[:_MAX_DETAIL]}…"


def _is_retryable(error: Exception) -> bool:
    if isinstance(error, ModelError):
        return error.is_retryable
    status = _status(error)
    if status is not None:
        return status in _RETRYABLE_STATUS or status >= 500
    return isinstance(error, (*_NOT_REACHED, APIConnectionError, json.JSONDecodeError))


def _fault(error: Exception, *, has_retry_after: bool) -> Fault | None:
    if is_held_back(error):
        return None
    status = _status(error)
    if status is not None:
        return status_fault(status, has_retry_after=has_retry_after)
    if is_unconnected(error):
        return Fault.UNAVAILABLE
    return Fault.FAILED if isinstance(error, _SILENT) else None


def _responses(error: BaseException | None) -> Iterator[Any]:
    while error is not None:
        response = getattr(error, "response", None)
        if response is not None:
            yield response
        error = error.__cause__


def _asked_path(error: Exception) -> str:
    """Which path is not there; without the query, which may hold a key."""
    for response in _responses(error):
        if response.status_code in (404, 405):
            return f"; asked was {response.request.method} {response.request.url.path}"
    return ""


def _status(error: Exception) -> int | None:
    for response in _responses(error):
        status = getattr(response, "status_code", None)
        if isinstance(status, int) and status >= 400:
            return status
    return None


def _wish(error: Exception) -> float | None:
    for response in _responses(error):
        headers = getattr(response, "headers", None)
        if headers is not None:
            return retry_after_seconds(headers.get("retry-after"), now=datetime.now(UTC))
    return None


def _without(secret: str | None, text: str) -> str:
    return text.replace(secret, "[secret]") if secret else text
