"""W3C trace context by hand: which trace a message, a task and an agent call belong to.

No SDK: a header is read or made, handed on to the agents, and its id stands in the logs.
"""

import re
import secrets
from dataclasses import dataclass

TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A place in a trace: hex ids as they stand in the header."""

    trace_id: str
    span_id: str
    is_sampled: bool = True

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.is_sampled else '00'}"


def new_trace() -> Trace:
    return Trace(trace_id=secrets.token_hex(16), span_id=secrets.token_hex(8))


def parse_traceparent(header: str | None) -> Trace | None:
    """The trace that a `traceparent` header names; None where it is missing or not valid."""
    match = TRACEPARENT.fullmatch(header.strip()) if header else None
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    # A later version may append fields; version 00 has none, and ff is not a version.
    if version == "ff" or (version == "00" and rest):
        return None
    if trace_id == "0" * 32 or span_id == "0" * 16:
        return None
    return Trace(trace_id=trace_id, span_id=span_id, is_sampled=bool(int(flags, 16) & 1))
