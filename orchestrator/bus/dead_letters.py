"""The envelope of a dead letter: the original bytes as they came, and headers that say why.

The names of the headers are read by operators' tools: never rename one.
"""

import hashlib
import os
import re
import time
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from orchestrator.bus.headers import Headers, first
from orchestrator.domain.json import clean_text
from orchestrator.domain.step import NOBODYS_DECISION
from orchestrator.store.ingest import DeadLetter, Origin

ID, REASON, ERROR = "dlq.id", "dlq.reason", "dlq.error"
ORIGINAL = "dlq.original."
ORIGINAL_HEADER = "dlq.original.header."
TASK_ID = "dlq.task_id"
FIRST_SEEN, FAILED_AT = "dlq.first_seen", "dlq.failed_at"
GROUP, VERSION, REPLAYS = "dlq.consumer_group", "dlq.service_version", "dlq.replays"
SHA256, LENGTH = "dlq.original.sha256", "dlq.original.length"
KEY_SHA256, KEY_LENGTH = "dlq.original.key.sha256", "dlq.original.key.length"
REPLAY_OF = "dlq.replay_of"
"""On what was sent again, and on the letters that come of it: the id of the first letter."""
NEXT_OFFSET = "dlq.gap.next_offset"

GAP, PUBLISH_TOO_LARGE = "gap", "publish_too_large"
STORE_REJECTED = "store_rejected"
BATCH_TOO_LARGE = "batch_too_large"
CRASH_LOOP = "crash_loop"
OF_TASKS = (*NOBODYS_DECISION, CRASH_LOOP)
"""Reasons of letters about a task that is stored: it is sent back to work, not published again."""
OF_MESSAGES = ("invalid_json", "invalid_utf8", "null_value", "too_large", "too_deep", "schema")
OF_RANGES = (GAP, BATCH_TOO_LARGE)
"""Reasons of letters about a range of offsets; their value is no message."""
REASONS = (
    *(*OF_MESSAGES, STORE_REJECTED, "unknown_task", *OF_TASKS, *OF_RANGES, PUBLISH_TOO_LARGE),
)
"""All that `dlq.reason` says."""

MAX_ERROR_CHARACTERS = 1000
MAX_ORIGIN_CHARACTERS = 200
"""Of an origin that is believed: any sender may write the header."""
MAX_HEADER_BYTES = 16 * 1024
"""Of all original headers together: beyond it they are left out, and a header says how many."""
HEADERS_LEFT_OUT = "dlq.original.headers_left_out"
_OURS = {
    FIRST_SEEN: re.compile(r"[0-9T:.+-]{1,40}"),
    REPLAYS: re.compile(r"[0-9]{1,9}"),
    REPLAY_OF: re.compile(rf"[^\x00-\x1f]{{1,{MAX_ORIGIN_CHARACTERS}}}"),
    "traceparent": re.compile(r"[0-9a-f-]{55,200}"),
}
"""How the headers look that a letter takes over: any sender may write them."""
MAX_KEY_BYTES = 16 * 1024
"""Of the key of a letter that has to be cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a message is a dead letter."""

    reason: str
    error: str
    task_id: str | None = None
    timestamp_ms: int | None = None
    """The record's own time."""
    next_offset: int | None = None
    """For a gap: where reading may go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """Who writes the letter."""

    topic: str
    group_id: str
    max_value_bytes: int


def service_version() -> str:
    try:
        return version("orchestrator")
    except PackageNotFoundError:
        return "unknown"


SERVICE_VERSION = service_version()


def dead_letter(
    origin: Origin, failure: Failure, *, station: Station, now: datetime | None = None
) -> DeadLetter:
    """The letter; a value over the limit is cut, with its length and SHA-256 told."""
    failed_at = (now or datetime.now(UTC)).isoformat()
    headers = [
        (ID, str(uuid7())),
        (REASON, failure.reason),
        (ERROR, clean_text(failure.error)[:MAX_ERROR_CHARACTERS]),
        (f"{ORIGINAL}topic", origin.topic),
        (f"{ORIGINAL}partition", str(origin.partition)),
        (f"{ORIGINAL}offset", str(origin.offset)),
        (FIRST_SEEN, _carried(origin, FIRST_SEEN) or failed_at),
        (FAILED_AT, failed_at),
        (GROUP, station.group_id),
        (VERSION, SERVICE_VERSION),
        (REPLAYS, _carried(origin, REPLAYS) or "0"),
        *_optional(origin, failure),
        *_original_headers(origin.headers),
    ]
    letter = DeadLetter(
        origin=origin,
        topic=station.topic,
        key=origin.key,
        value=origin.value,
        headers=tuple(headers),
    )
    return shortened(letter, max_value_bytes=station.max_value_bytes)


def shortened(letter: DeadLetter, *, max_value_bytes: int) -> DeadLetter:
    """The letter, its value no longer than this."""
    value = letter.value
    if value is None or len(value) <= max_value_bytes:
        return letter
    return replace(
        letter,
        value=value[:max_value_bytes],
        headers=(*letter.headers, *cut_headers(value)),
    )


def cut_headers(value: bytes) -> Headers:
    """What is told of a value of which only the beginning is kept."""
    return ((LENGTH, str(len(value))), (SHA256, hashlib.sha256(value).hexdigest()))


def cut_key_headers(key: bytes) -> Headers:
    """The same of a key."""
    return ((KEY_LENGTH, str(len(key))), (KEY_SHA256, hashlib.sha256(key).hexdigest()))


def without_originals(headers: Headers) -> Headers:
    """The letter's own headers, and how many of its message's are not among them."""
    own = tuple((n, v) for n, v in headers if not n.startswith(ORIGINAL_HEADER))
    left_out = len(headers) - len(own)
    return (*own, (HEADERS_LEFT_OUT, str(left_out))) if left_out else own


def _optional(origin: Origin, failure: Failure) -> Headers:
    found: list[tuple[str, str]] = []
    if failure.timestamp_ms is not None and failure.timestamp_ms >= 0:
        found.append((f"{ORIGINAL}timestamp", str(failure.timestamp_ms)))
    if failure.task_id is not None:
        found.append((TASK_ID, failure.task_id))
    if failure.next_offset is not None:
        found.append((NEXT_OFFSET, str(failure.next_offset)))
    carried = ((name, _carried(origin, name)) for name in (REPLAY_OF, "traceparent"))
    return (*found, *((name, value) for name, value in carried if value is not None))


def _carried(origin: Origin, name: str) -> str | None:
    """A header that the letter takes over; None where nobody of us can have written it."""
    value = first(origin.headers, name)
    return value if value is not None and _OURS[name].fullmatch(value) else None


def _original_headers(headers: Headers) -> Headers:
    # Those of an earlier letter, which a replay carries along, are no part of the original.
    original = tuple((n, v) for n, v in headers if not n.lower().startswith("dlq."))
    if sum(len(n) + len(v) for n, v in original) > MAX_HEADER_BYTES:
        return ((HEADERS_LEFT_OUT, str(len(original))),)
    return tuple((ORIGINAL_HEADER + name, value) for name, value in original)


def uuid7(*, now_ms: int | None = None) -> uuid.UUID:
    """RFC 9562: sorts by time. The standard library has it from Python 3.14 on."""
    milliseconds = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    random = int.from_bytes(os.urandom(10))
    value = milliseconds << 80 | 7 << 76 | (random >> 68) << 64 | 2 << 62 | random & (2**62 - 1)
    return uuid.UUID(int=value)
