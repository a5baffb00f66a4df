"""Calls an agent by JSON over HTTP, the default contract: one POST, one answer, within a deadline.

Whatever the agent does, the outcome is a `CallResult`; only cancellation passes through.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import httpx
import orjson

from orchestrator.agents.agent import CallRequest
from orchestrator.agents.callers.bodies import ACCEPT_ENCODING, read_body
from orchestrator.agents.callers.http_answer import refusal, result_of
from orchestrator.agents.http import agent_errors
from orchestrator.agents.schemas import violations
from orchestrator.agents.signature import secret_key, signature_headers
from orchestrator.domain.call import CallResult, CallStatus
from orchestrator.domain.errors import AgentFailed, InvalidAgent
from orchestrator.domain.ids import idempotency_key

# Enough for the words of an error; the rest of an error page is not read.
MAX_ERROR_BYTES = 16_384

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_PLAIN_HEADER = re.compile(r"[!-$&-~]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCallerOptions:
    max_body_bytes: int = 5_000_000
    """Of the decompressed answer."""
    max_json_depth: int = 64


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _always() -> bool:
    return True


class HttpCaller:
    """A caller for agents of protocol `http`.

    `environ` holds the signing secrets. `may_send` is asked directly before each send: a worker
    whose lease ran out while the call waited must not send it any more.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        environ: Mapping[str, str],
        options: HttpCallerOptions = HttpCallerOptions(),
        now: Callable[[], datetime] = _utc_now,
        may_send: Callable[[], bool] = _always,
    ) -> None:
        self._client = client
        self._environ = environ
        self._options = options
        self._now = now
        self._may_send = may_send

    async def call(self, request: CallRequest) -> CallResult:
        started = time.perf_counter()
        try:
            result = await self._within_deadline(request)
        except AgentFailed as error:
            result = _error_result(error)
        return replace(result, duration_ms=_milliseconds_since(started))

    async def status(self, request: CallRequest) -> CallResult | None:
        """What became of an earlier call: its result, None (never arrived), or a retryable error."""
        ...
