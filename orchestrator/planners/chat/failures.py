"""Translates what a model's client raises into `ModelFailed`: the one place that knows both.

Where an answer of HTTP came its words decide (`refusal.py`), else the provider-neutral classes of
LangChain. What is neither is not the model's.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from traceback import walk_tb
from typing import Any

from langchain_core.exceptions import (
    ContextOverflowError,
    LangChainException,
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelInvalidRequestError,
    ModelNotFoundError,
    ModelPermissionDeniedError,
    ModelRateLimitError,
    ModelTimeoutError,
)
from openai import APIConnectionError, APITimeoutError, OpenAIError

from orchestrator.agents.http import (
    TRANSPORT_ERRORS,
    is_held_back,
    is_unconnected,
    is_undecodable,
    retry_after_seconds,
)
from orchestrator.domain.errors import ModelFailed
from orchestrator.domain.fault import Fault
from orchestrator.planners.chat.answer import storable_text
from orchestrator.planners.chat.options import ModelOptions
from orchestrator.planners.chat.refusal import NoCompletion, Refusal, judged

_NOT_REACHED: tuple[type[Exception], ...] = (OSError, *TRANSPORT_ERRORS)
_SILENT = (*_NOT_REACHED, APIConnectionError, ModelTimeoutError, ModelConnectionError)

MODEL_ERRORS: tuple[type[Exception], ...] = (
    LangChainException,
    OpenAIError,
    NoCompletion,
    *_NOT_REACHED,
)
"""What the libraries promise to raise for what the other side did."""

_UNREAD = (ValueError, LookupError, TypeError, AttributeError)
_PERMANENT = (
    ModelAuthenticationError,
    ModelPermissionDeniedError,
    ModelNotFoundError,
    ModelInvalidRequestError,
    ContextOverflowError,
)
"""Of providers that raise these without the answer of HTTP."""

_MAX_DETAIL = 400

_TOO_LONG = "the conversation is longer than the model's context"
_REFUSED = "the provider refused the request"
_EXPLAINED = {
    400: _REFUSED,
    401: "the provider refused the API key: check it",
    402: "the provider's account has no credit or quota left: check its plan",
    403: "the API key may not use this model: check its rights",
    404: "there is no such model: check LLM_MODEL and base URL",
    413: _REFUSED,
    422: _REFUSED,
}
_CLASSES: tuple[tuple[type[Exception], str], ...] = (
    (ContextOverflowError, _TOO_LONG),
    (ModelPermissionDeniedError, _EXPLAINED[403]),
    (ModelNotFoundError, _EXPLAINED[404]),
    (ModelInvalidRequestError, _REFUSED),
    (ModelRateLimitError, "the provider limits how often it is asked"),
    (ModelAPIError, "the provider reports a failure of its own"),
)


def is_from_model(error: Exception, *, options: ModelOptions) -> bool:
    """Whether the other side is behind it; what is not is a fault of ours, and no task's end."""
    if _refusal(error) is not None or any(isinstance(e, MODEL_ERRORS) for e in _chain(error)):
        return True
    # Of OpenAI's protocol we read the answers; clients of other providers raise these of theirs.
    return options.provider != "openai" and isinstance(error, _UNREAD) and not _is_ours(error)


def _is_ours(error: Exception) -> bool:
    """Whether code of this package raised it."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    return bool(frames) and str(frames[-1].f_globals.get("__name__")).startswith("orchestrator.")


def model_failed(error: Exception, *, options: ModelOptions) -> ModelFailed:
    """The product's error for `error`; its text names the model and never holds the API key."""
    wish = _wish(error)
    return ModelFailed(
        f"model {options.model!r}: {_explanation(error, options)}{_asked_path(error)}",
        retryable=not _is_permanent(error),
        retry_after_seconds=wish,
        fault=_fault(error, has_retry_after=wish is not None),
        was_sent=not is_held_back(error),
    )


def is_unanswered(error: Exception) -> bool:
    """Whether the request went out and nothing came back that tells what it used."""
    if is_held_back(error) or is_unconnected(error):
        return False
    refusal = _refusal(error)
    return refusal.is_half if refusal else isinstance(error, _SILENT)


def is_refused_request(error: Exception) -> bool:
    """Whether the endpoint found something wrong with the request itself."""
    refusal = _refusal(error)
    return isinstance(error, ContextOverflowError) or (
        refusal is not None and refusal.status in (400, 413, 422)
    )


def _explanation(error: Exception, options: ModelOptions) -> str:
    refusal = _refusal(error)
    if refusal is not None:
        return _told(refusal, options)
    if isinstance(error, ModelAuthenticationError):
        return _EXPLAINED[401]
    if isinstance(error, TimeoutError | ModelTimeoutError | APITimeoutError) and not (
        is_unconnected(error)
    ):
        return f"no answer within {options.timeout_seconds:g} seconds"
    return f"{_what(error)} ({_detail(error, options)})"


def _what(error: Exception) -> str:
    explained = next((text for kind, text in _CLASSES if isinstance(error, kind)), None)
    if explained is not None:
        return explained
    if is_unconnected(error):
        return "it can't be reached, and nothing was sent"
    if isinstance(error, _SILENT) and not is_undecodable(error):
        return "the connection failed before its answer was complete"
    return f"its answer can't be read: {type(error).__name__}"


def _told(refusal: Refusal, options: ModelOptions) -> str:
    status, at = refusal.status, f"status {refusal.http_status}"
    words = _line(refusal.text, options)
    if refusal.is_too_long:
        return f"{_TOO_LONG} ({at}: {words})"
    if status == 401:
        return _EXPLAINED[status]  # what providers say about a refused key quotes parts of it
    if status in _EXPLAINED:
        return f"{_EXPLAINED[status]} ({at}: {words})"
    if status == refusal.http_status:
        return f"it answered with {at}: {words}"
    if refusal.http_status < 300 and refusal.is_excerpt:
        return f"its answer can't be read ({at}): {words}"
    hint = "; check LLM_MODEL and base URL" if refusal.http_status == 404 else ""
    return f"it answered with {at}, which is taken for {status}{hint}: {words}"


def _detail(error: Exception, options: ModelOptions) -> str:
    # The connection's own error says more than the client's "Connection error.".
    *_, cause = _chain(error)
    return _line(str(error) if cause is error or not str(cause) else f"{error} {cause}", options)


def _line(text: str, options: ModelOptions) -> str:
    # The key goes before the end does: half of it would not be known again.
    line = " ".join(storable_text(_without(options.api_key, text)).split())
    return line if len(line) <= _MAX_DETAIL else f"{line[:_MAX_DETAIL]}…"


def _is_permanent(error: Exception) -> bool:
    refusal = _refusal(error)
    return refusal.is_permanent if refusal else isinstance(error, _PERMANENT)


def _fault(error: Exception, *, has_retry_after: bool) -> Fault | None:
    if is_held_back(error):
        return None
    refusal = _refusal(error)
    if refusal is not None:
        return refusal.fault(has_retry_after=has_retry_after)
    if is_unconnected(error):
        return Fault.UNAVAILABLE
    if isinstance(error, ModelRateLimitError):
        return Fault.LIMITED
    return None if isinstance(error, _PERMANENT) else Fault.FAILED


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _asked_path(error: Exception) -> str:
    """Which path is not there; without the query, which may hold a key."""
    for each in _chain(error):
        response: Any = getattr(each, "response", None)
        if getattr(response, "status_code", None) in (404, 405):
            request = getattr(response, "_request", None)  # its property raises where there is none
            return f"; asked was {request.method} {request.url.path}" if request else ""
    return ""


def _refusal(error: Exception) -> Refusal | None:
    """What the other side said, where an answer of HTTP came."""
    for each in _chain(error):
        if isinstance(each, NoCompletion):
            return each.refusal
        for source in (getattr(each, "response", None), each):
            status = getattr(source, "status_code", None)
            if isinstance(status, int) and status >= 200:
                return judged(status, _body(source) or str(each))
    return None


def _body(source: object) -> str:
    try:
        bodies = (getattr(source, name, None) for name in ("text", "body"))
        return next((body for body in bodies if isinstance(body, str)), "")
    except RuntimeError:  # it was not read
        return ""


def _wish(error: Exception) -> float | None:
    for each in _chain(error):
        headers = getattr(getattr(each, "response", None), "headers", None)
        if headers is not None:
            return retry_after_seconds(headers.get("retry-after"), now=datetime.now(UTC))
    return None


def _without(secret: str | None, text: str) -> str:
    return text.replace(secret, "[secret]") if secret else text
