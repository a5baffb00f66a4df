"""What an endpoint said in place of an answer, judged by its words: its status alone may mislead.

Pure. Permanent is only what it says in so many words about the key, the model or the request.
Whatever cannot be understood may be a gateway's, and is tried again like a 502.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from orchestrator.agents.http import status_fault
from orchestrator.domain.fault import Fault
from orchestrator.domain.json import JsonObject, JsonValue

EXCERPT = 200
"""Characters of a body that nobody understands."""
MAX_WORDS = 400
NOT_UNDERSTOOD = 502
NO_CREDIT = 402

_PERMANENT = frozenset({400, 401, 403, 404, 413, 422})
_PASSING = frozenset({408, 409, 425, 429})

_TOO_LONG = re.compile(
    r"context_length_exceeded|exceeds? the context window|prompt is too long"
    r"|input tokens exceed the configured limit|contextwindowexceedederror"
    r"|maximum context length|exceed_context_size|exceeds the available context size",
    re.IGNORECASE,
)
# A limit of tokens in a minute that one request alone exceeds: waiting does not help.
_NEVER_FITS = re.compile(r"tokens must be reduced in order to run", re.IGNORECASE)
_BAD_KEY = re.compile(r"(invalid|incorrect|missing|wrong|no) api.?key", re.IGNORECASE)
_OF_A_MODEL = re.compile(r"model|deployment|engine", re.IGNORECASE)
_OF_A_REQUEST = re.compile(
    r"model|tool|message|prompt|context|param|field|token|argument|schema|support|invalid",
    re.IGNORECASE,
)
_OF_A_FAILURE = re.compile(
    r"upstream|try again|temporar|unavailable|overload|timed? ?out|internal (server )?error"
    r"|(unexpected|unknown) error|returned error|something went wrong|connection",
    re.IGNORECASE,
)

# Codes and types of OpenAI, Azure, Anthropic, Google and gateways, without what separates words.
_STATUSES: tuple[tuple[re.Pattern[str], int], ...] = tuple(
    (re.compile(words), status)
    for words, status in (
        (r"insufficient(quota|balance|credit|funds)|billing|paymentrequired", NO_CREDIT),
        (r"ratelimit|toomanyrequests|resourceexhausted|throttl|quotaexceeded", 429),
        (r"overload|unavailable|capacity", 503),
        (r"timeout|timedout|deadlineexceeded", 504),
        (r"invalidapikey|authentication|unauthenticated|unauthorized", 401),
        (r"permission|forbidden|accessdenied", 403),
        (r"notfound", 404),
        (r"invalidrequest|invalidargument|badrequest|contextlength|contentfilter|validation", 400),
        (r"servererror|internal|apierror|upstream|providererror", 500),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """No answer, and what it means."""

    http_status: int
    status: int
    """What its words mean, as a status of HTTP; 502 where nobody understands them."""
    text: str
    """Its words, or the beginning of its body."""
    is_excerpt: bool = False
    """Nobody understands it: `text` is how it begins."""
    is_too_long: bool = False
    """The conversation does not fit into the model's context."""
    is_half: bool = False
    """JSON that began as an answer and is none: the model may have worked for it."""

    @property
    def is_permanent(self) -> bool:
        return self.status in _PERMANENT

    def fault(self, *, has_retry_after: bool) -> Fault | None:
        if self.status == NO_CREDIT:
            return Fault.LIMITED
        return status_fault(self.status, has_retry_after=has_retry_after)


class NoCompletion(Exception):
    """What came with a good status is no answer."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.text)
        self.refusal = refusal
        self.response: object | None = None
        """The answer of HTTP, where it is known: its headers may say when to come back."""


def judged(http_status: int, body: str) -> Refusal:
    """What an answer means that holds no completion, whatever its status is."""
    words = _words(_parsed(body))
    said = f"{words.codes} {words.text}" if words else ""
    pattern = _NEVER_FITS if http_status == 429 else _TOO_LONG
    is_too_long = pattern.search(said) is not None
    is_half = http_status < 300 and words is None and body.lstrip("\ufeff \r\n\t")[:1] in ("{", "[")
    status = _status(http_status, words.status if words else None)
    if is_too_long:
        status = 400
    elif is_half:
        status = 500
    elif status in _PERMANENT and not _is_clear(status, words, body):
        # Words of 400 come from the endpoint itself, and the prompt may be their cause.
        status = 500 if words is not None and status != 404 else NOT_UNDERSTOOD
    return Refusal(
        http_status=http_status,
        status=status,
        text=words.text[:MAX_WORDS] if words else _excerpt(body),
        is_excerpt=words is None,
        is_too_long=is_too_long,
        is_half=is_half,
    )


def broken_off(error: JsonValue, *, reason: str) -> Refusal:
    """What a choice means whose `finish_reason` says that it failed; `error` is what it tells."""
    body = json.dumps({"error": error}, default=str)
    if _words(_parsed(body)) is None:
        text = f"finish_reason {reason!r}" if reason else "an empty answer, without a reason"
        return Refusal(http_status=200, status=500, text=text, is_excerpt=True, is_half=True)
    return judged(200, body)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Words:
    text: str
    codes: str
    status: int | None


def _words(value: JsonValue) -> _Words | None:
    """The error in a body, in the shapes of OpenAI, Google (a list), vLLM, Ollama and gateways."""
    value = _first(value)
    if not isinstance(value, dict):
        return None
    # Some say `"error": true`, and the rest beside it.
    told = (value.get(name) for name in ("error", "errors"))
    inner = _first(next((each for each in told if each and not isinstance(each, int)), value))
    if isinstance(inner, str):
        beside = [text for text in (value.get("message"),) if isinstance(text, str)]
        inner = {**value, "message": ": ".join([inner, *beside])}
    if not isinstance(inner, dict):
        return None
    text = " ".join(_texts(inner))
    codes = [inner[name] for name in ("code", "type", "status", "status_code") if inner.get(name)]
    if not text and inner is value:
        return None
    status = next((found for code in codes if (found := _status_of(code)) is not None), None)
    if status is None and _BAD_KEY.search(text):
        status = 401
    said = " ".join(str(code) for code in codes if isinstance(code, str | int))
    if not text and status is None:
        return None
    return _Words(text=text or said, codes=said, status=status)


def _first(value: JsonValue) -> JsonValue:
    return value[0] if isinstance(value, list) and value else value


def _texts(error: JsonObject) -> Iterator[str]:
    for name in ("message", "msg", "detail", "error_message", "error_msg", "title"):
        text = error.get(name)
        if text:
            yield text if isinstance(text, str) else json.dumps(text)
            break
    # A gateway that says "Provider returned error" has the provider's words beside it.
    metadata: Any = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    if raw:
        yield raw if isinstance(raw, str) else json.dumps(raw)
    if filtered := filters_of(error):
        yield f"(filtered: {', '.join(filtered)})"


def filters_of(value: JsonValue, *, depth: int = 4) -> list[str]:
    """Categories that a content filter in the manner of Azure names as filtered."""
    if not isinstance(value, dict) or depth == 0:
        return []
    found = []
    for name, part in value.items():
        if isinstance(part, dict) and part.get("filtered") is True:
            found.append(str(name))
        else:
            found += filters_of(part, depth=depth - 1)
    return found


def _status_of(code: object) -> int | None:
    text = re.sub(r"[^a-z0-9]", "", str(code).lower())
    if text.isdecimal():
        return int(text) if len(text) == 3 and 400 <= int(text) < 600 else None
    return next((status for words, status in _STATUSES if words.search(text)), None)


def _status(http: int, said: int | None) -> int:
    if NO_CREDIT in (http, said):
        return NO_CREDIT
    if http in _PERMANENT:
        return http if said is None or said in _PERMANENT else said
    if http >= 500 or http in _PASSING:
        return http
    return said or NOT_UNDERSTOOD


def _is_clear(status: int, words: _Words | None, body: str) -> bool:
    """Whether the endpoint says so in so many words; a web page is somebody else's."""
    if body.lstrip().startswith("<"):
        return False
    if status in (401, 403):
        return True
    said = f"{words.codes} {words.text}" if words else body
    if status == 404:
        return bool(_OF_A_MODEL.search(said))
    if _OF_A_REQUEST.search(said):
        return True
    return words is not None and not _OF_A_FAILURE.search(said)


def _parsed(body: str) -> JsonValue:
    """The JSON of a body, or of the first event of a stream; None where there is none."""
    body = body.lstrip("\ufeff \r\n\t")
    if body.startswith(("data:", "event:")):
        lines = (line for line in body.splitlines() if line.startswith("data:"))
        body = next(lines, "").removeprefix("data:")
    try:
        parsed: JsonValue = json.loads(body, strict=False)
    except (ValueError, RecursionError):
        return None
    return parsed


def _excerpt(body: str) -> str:
    text = " ".join(body.split())
    if not text:
        return "an empty body"
    return text if len(text) <= EXCERPT else f"{text[:EXCERPT]}…"
