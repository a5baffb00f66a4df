"""Calls an agent by JSON over HTTP, the default contract: one POST, one answer, within a deadline.

Whatever the agent does, the outcome is a `CallResult`; only cancellation passes through.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import quote

import httpx

from orchestrator.agents.agent import CallRequest
from orchestrator.agents.bodies import read_body
from orchestrator.agents.callers.http_answer import refusal, result_of
from orchestrator.agents.callers.http_request import (
    cancel_content,
    header_key,
    request_content,
    request_headers,
)
from orchestrator.agents.http import (
    TRANSPORT_ERRORS,
    AgentHttpClient,
    agent_errors,
    retry_after_seconds,
)
from orchestrator.agents.schemas import violations
from orchestrator.domain.call import CallResult, CallStatus
from orchestrator.domain.errors import AgentFailed, CutShort, UnusableAnswer
from orchestrator.domain.fault import Fault

# Enough for the words of an error; the rest of an error page is not read.
MAX_WORDS_BYTES = 16_384
ACCEPTED = 202
NOT_FOUND = 404

_UNREADABLE: tuple[type[Exception], ...] = (AgentFailed, *TRANSPORT_ERRORS)

Result = TypeVar("Result", CallResult, CallResult | None, bool)


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
        client: AgentHttpClient,
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
            result = await self._within_deadline(request, self._execute)
        except AgentFailed as error:
            result = _error_result(error)
        return replace(result, duration_ms=_milliseconds_since(started))

    async def status(self, request: CallRequest) -> CallResult | None:
        """What became of an earlier call: its result, or None when the agent never got it.

        Whoever fails to find out is unsure whether the effect was done. Where that may pass, the
        failure is retryable.
        """
        started = time.perf_counter()
        try:
            result = await self._within_deadline(request, self._ask)
        except AgentFailed as error:
            result = replace(_error_result(error), is_unsure=True)
        return result and replace(result, duration_ms=_milliseconds_since(started))

    async def cancel(self, request: CallRequest) -> bool:
        """Tells the agent's `cancel_url`; any 2xx says that it heard."""
        try:
            return await self._within_deadline(request, self._tell)
        except AgentFailed:
            return False

    async def _tell(self, request: CallRequest) -> bool:
        assert request.agent.cancel_url is not None, "only these are told"
        url = _keyed(request.agent.cancel_url, request)
        async with self._exchange(request, url=url, content=cancel_content(request)) as response:
            await self._read_words(response, request)
            return response.is_success

    async def _within_deadline(
        self, request: CallRequest, exchange: Callable[[CallRequest], Awaitable[Result]]
    ) -> Result:
        agent_id, seconds = request.agent.id, request.timeout_seconds
        try:
            async with asyncio.timeout(max(seconds, 0)):
                with agent_errors(agent_id):
                    return await exchange(request)
        except TimeoutError as error:
            silent = f"agent {agent_id!r} did not answer within {seconds:g} s"
            if request.is_cut_short:
                raise CutShort(f"{silent}, when the task's deadline came") from error
            raise AgentFailed(silent, retryable=True, fault=Fault.FAILED) from error

    async def _execute(self, request: CallRequest) -> CallResult:
        agent = request.agent
        content = request_content(request)
        wrong = violations(agent.input_schema, request.input)
        if wrong:
            raise AgentFailed(
                f"the input of agent {agent.id!r} is against its schema: {'; '.join(wrong)}",
                retryable=False,
            )
        async with self._exchange(request, url=f"{agent.endpoint}/execute", content=content) as (
            response
        ):
            if response.status_code == ACCEPTED:
                # Read to its end, so that the connection can be used again.
                await self._read_words(response, request)
                return CallResult(status=CallStatus.ACCEPTED)
            return await self._result(response, request)

    async def _ask(self, request: CallRequest) -> CallResult | None:
        agent = request.agent
        if agent.status_url is None:
            raise AgentFailed(f"agent {agent.id!r} has no status_url to ask", retryable=False)
        url = _keyed(agent.status_url, request)
        async with self._exchange(request, url=url, content=None) as response:
            if response.status_code == NOT_FOUND:
                await self._read_words(response, request)
                return None
            if response.status_code == ACCEPTED:
                await self._read_words(response, request)
                raise self._is_at_work(response, request)
            return await self._result(response, request)

    def _is_at_work(self, response: httpx.Response, request: CallRequest) -> AgentFailed:
        wait = retry_after_seconds(response.headers.get("retry-after"), now=self._now())
        return AgentFailed(
            f"agent {request.agent.id!r} still works on it",
            retryable=True,
            retry_after_seconds=wait,
        )

    @asynccontextmanager
    async def _exchange(
        self, request: CallRequest, *, url: str, content: bytes | None
    ) -> AsyncIterator[httpx.Response]:
        headers = request_headers(
            request, content=content or b"", now=self._now(), environ=self._environ
        )
        if not self._may_send():
            raise AgentFailed(
                f"the call to agent {request.agent.id!r} was not sent: "
                "this worker lost its lease while the call waited",
                retryable=True,
                was_sent=False,
            )
        method = "GET" if content is None else "POST"
        # Where the task's end cuts the time, a connection that is not there says nothing yet.
        within_seconds = math.inf if request.is_cut_short else request.timeout_seconds
        async with self._client.exchange(
            method, url, headers=headers, content=content, within_seconds=within_seconds
        ) as response:
            yield response

    async def _result(self, response: httpx.Response, request: CallRequest) -> CallResult:
        if not response.is_success:
            raise await self._refusal(response, request)
        body = await read_body(
            response, agent_id=request.agent.id, max_bytes=self._options.max_body_bytes
        )
        return result_of(body, agent=request.agent, max_depth=self._options.max_json_depth)

    async def _refusal(self, response: httpx.Response, request: CallRequest) -> AgentFailed:
        return refusal(
            response.status_code,
            agent=request.agent,
            retry_after=response.headers.get("retry-after"),
            body=await self._read_words(response, request),
            now=self._now(),
        )

    async def _read_words(self, response: httpx.Response, request: CallRequest) -> bytes:
        """A body that is only looked at for its words: an unusable one is an empty one."""
        try:
            return await read_body(response, agent_id=request.agent.id, max_bytes=MAX_WORDS_BYTES)
        except _UNREADABLE:
            return b""


def _keyed(url: str, request: CallRequest) -> str:
    return url.replace("{key}", quote(header_key(request), safe=""))


def _error_result(error: AgentFailed) -> CallResult:
    return CallResult(
        status=CallStatus.ERROR,
        error=str(error),
        retryable=error.retryable,
        retry_after_seconds=error.retry_after_seconds,
        was_sent=error.was_sent,
        is_unsure=isinstance(error, UnusableAnswer),
        is_cut_short=isinstance(error, CutShort),
        fault=error.fault,
    )


def _milliseconds_since(started: float) -> int:
    return round((time.perf_counter() - started) * 1000)
