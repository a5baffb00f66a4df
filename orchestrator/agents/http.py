"""The only place where HTTP clients are built, and where their libraries' exceptions end.

No client follows redirects, keeps cookies, retries, or takes a proxy or credentials from the
environment.
"""

import math
import re
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from http.client import HTTPResponse
from http.cookiejar import CookieJar
from typing import Self
from urllib.request import Request

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from orchestrator.agents.bodies import ACCEPT_ENCODING, UnusableBody, bounded_body
from orchestrator.domain.errors import AgentFailed, UnusableAnswer
from orchestrator.domain.fault import Fault

CONNECT_TIMEOUT_SECONDS = 5.0
MAX_MODEL_ANSWER_BYTES = 16_000_000
"""Decompressed; more than any model writes in one turn."""

TRANSPORT_ERRORS: tuple[type[Exception], ...] = (
    httpx.HTTPError,
    httpx.InvalidURL,
    aiohttp.ClientError,
)
"""What a client of this module raises where no answer came, for libraries that use it as theirs."""

_UNAVAILABLE = frozenset({502, 503, 504, 529})
_SECONDS = re.compile(r"\d+(\.\d+)?", re.ASCII)

# Uvicorn closes idle connections after 5 s. A POST on a connection that is just being closed fails
# and must not be sent again unasked, so we are always the first to close.
IDLE_CONNECTION_SECONDS = 4.0


class NoCookies(CookieJar):
    """Takes no cookie, so that one agent's answer can't change what the next call sends."""

    def extract_cookies(self, response: HTTPResponse, request: Request) -> None:
        """Keeps nothing."""


class AgentHttpClient:
    """Sends a request and gives its answer, whatever the status.

    It sits on the transport itself, so there is no code for redirects, cookies, proxies or retries
    that could be switched on, and none that costs CPU (half of what `httpx.AsyncClient` takes).
    """

    def __init__(
        self, transport: httpx.AsyncBaseTransport, *, connect_timeout_seconds: float
    ) -> None:
        self._transport = transport
        self._connect_timeout_seconds = connect_timeout_seconds

    @asynccontextmanager
    async def exchange(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        content: bytes | None = None,
        within_seconds: float = math.inf,
    ) -> AsyncIterator[httpx.Response]:
        """The answer, its body still to be read; the connection is given back at the end.

        Bound it by a deadline, `within_seconds` from here. Raises what `agent_errors` translates.
        """
        connect = connect_seconds(self._connect_timeout_seconds, within_seconds=within_seconds)
        request = httpx.Request(
            method,
            _parsed(url),
            headers=headers,
            content=content,
            extensions={"timeout": {"connect": connect, "pool": connect}},
        )
        with _named_errors():
            response = await self._transport.handle_async_request(request)
            try:
                yield response
            finally:
                await response.aclose()

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def connect_seconds(connect_timeout_seconds: float, *, within_seconds: float) -> float:
    """For a connection: not all the time there is, or nobody knows that nothing was sent."""
    return min(connect_timeout_seconds, 0.9 * max(within_seconds, 0.0))


@lru_cache(maxsize=1024)
def _parsed(url: str) -> httpx.URL:
    return httpx.URL(url)


def agent_http_client(
    *,
    connect_timeout_seconds: float = CONNECT_TIMEOUT_SECONDS,
    may_send: Callable[[], bool] | None = None,
) -> AgentHttpClient:
    """The client for calls to agents; close it with `aclose`, or use it in `async with`.

    It has no deadline for the whole call (the caller sets one) and no limit of connections (each
    agent's `limits.concurrency` is the limit). `may_send` is asked when the connection stands and
    nothing is left to wait for: a process that is frozen while it connects must not send after it.
    The connection of a request that is held back is closed.
    """
    tls = _tls()
    traces = [] if may_send is None else [_fence(may_send, _call_not_sent)]
    return AgentHttpClient(
        AiohttpTransport(verify=tls, client=_aiohttp_session(tls, traces=traces)),
        connect_timeout_seconds=connect_timeout_seconds,
    )


def model_http_client(
    *,
    timeout_seconds: float,
    connect_timeout_seconds: float = CONNECT_TIMEOUT_SECONDS,
    may_send: Callable[[], bool] | None = None,
) -> httpx.AsyncClient:
    """The client under the chat model; close it with `aclose`.

    Its pool is its own, so slow agents never starve it. `timeout_seconds` bounds each wait for
    bytes; whoever asks the model bounds the whole call. `may_send` is as for agents: the answer to
    a prompt may be in the journal by then. An answer is read whole before it is given, up to
    `MAX_MODEL_ANSWER_BYTES`.
    """
    tls = _tls()
    traces = [] if may_send is None else [_fence(may_send, _prompt_not_sent)]
    transport = AiohttpTransport(verify=tls, client=_aiohttp_session(tls, traces=traces))
    connect = connect_seconds(connect_timeout_seconds, within_seconds=timeout_seconds)
    return httpx.AsyncClient(
        transport=_WholeAnswers(transport, connect_seconds=connect),
        headers={"Accept-Encoding": ACCEPT_ENCODING},
        timeout=timeout_seconds,
        cookies=NoCookies(),
        follow_redirects=False,
        trust_env=False,
    )


class _WholeAnswers(httpx.AsyncBaseTransport):
    """Reads each answer to its end, or to the bound: no endpoint fills the worker's memory.

    How long a connection may take is said here: libraries that use the client say with each request
    how long it may take in all, and mean the connection too.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport, *, connect_seconds: float) -> None:
        self._transport = transport
        self._connect = {"connect": connect_seconds, "pool": connect_seconds}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises `httpx.DecodingError` where the body is too large, or can't be decompressed."""
        request.extensions["timeout"] = {**request.extensions.get("timeout", {}), **self._connect}
        with _named_errors():
            response = await self._transport.handle_async_request(request)
            try:
                body = await bounded_body(response, max_bytes=MAX_MODEL_ANSWER_BYTES)
            except UnusableBody as error:
                raise httpx.DecodingError(f"it answered {error}") from error
            finally:
                await response.aclose()
        headers = [(n, v) for n, v in response.headers.raw if n.lower() not in _OF_THE_WIRE]
        return httpx.Response(response.status_code, headers=headers, content=body)

    async def aclose(self) -> None:
        await self._transport.aclose()


@contextmanager
def _named_errors() -> Iterator[None]:
    """Raises an error of the connection under the class of httpx that says what happened.

    httpx-aiohttp makes a `ConnectTimeout` of almost all of them: of a connection that was reset
    after the request was sent, and at once.
    """
    try:
        yield
    except httpx.TransportError as error:
        cause = error.__cause__
        kind = next((to for of, to in _KINDS if isinstance(cause, of)), type(error))
        if type(error) is kind:
            raise
        raise kind(str(error) or type(cause).__name__) from cause


_KINDS: tuple[tuple[type[Exception], type[httpx.TransportError]], ...] = (
    (aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout),
    (aiohttp.ServerTimeoutError, httpx.ReadTimeout),
    (aiohttp.ClientConnectorError, httpx.ConnectError),
    (aiohttp.ClientConnectionError, httpx.ReadError),
)
"""By the class of aiohttp, the most specific first."""

_OF_THE_WIRE = frozenset({b"content-encoding", b"content-length", b"transfer-encoding"})


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    """Reading the certificates takes 0.1 s, so the clients share them."""
    return httpx.create_ssl_context()


_NOT_SENT = "was not sent: this worker lost its lease while it was being connected"


class HeldBack(httpx.ConnectError):
    """A prompt that was not sent; the model's own library takes it for a failed connection."""


def is_held_back(error: BaseException | None) -> bool:
    """Whether we ourselves did not send it, however libraries have wrapped that."""
    return _has_cause(error, (HeldBack,))


def _call_not_sent() -> Exception:
    return AgentFailed(f"the call {_NOT_SENT}", retryable=True, was_sent=False)


def _prompt_not_sent() -> Exception:
    return HeldBack(f"the prompt {_NOT_SENT}")


def _fence(may_send: Callable[[], bool], error: Callable[[], Exception]) -> aiohttp.TraceConfig:
    async def check(*_: object) -> None:
        if not may_send():
            raise error()

    trace = aiohttp.TraceConfig()
    # Both are told (their names apart) directly before the bytes are handed over: a request without
    # a body goes out with its headers, the others in a later turn of the event loop. Not when the
    # connection is made or taken again: what is raised there leaves aiohttp's socket open for ever.
    trace.on_request_headers_sent.append(check)
    trace.on_request_chunk_sent.append(check)
    return trace


def _aiohttp_session(
    tls: ssl.SSLContext, *, traces: Sequence[aiohttp.TraceConfig] = ()
) -> Callable[[], aiohttp.ClientSession]:
    """Called by the transport within the running loop, once."""

    def build() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=tls, limit=0, keepalive_timeout=IDLE_CONNECTION_SECONDS
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            trace_configs=list(traces),
        )

    return build


@contextmanager
def agent_errors(agent_id: str) -> Iterator[None]:
    """Turns what the HTTP libraries raise into `AgentFailed`, with a text for people and models."""
    try:
        yield
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise AgentFailed(
            f"agent {agent_id!r} has an endpoint that can't be called: {_text(error)}",
            retryable=False,
        ) from error
    except (httpx.RemoteProtocolError, aiohttp.ClientResponseError) as error:
        raise UnusableAnswer(
            f"agent {agent_id!r} sent something that is not an HTTP answer: {_text(error)}"
        ) from error
    except UnicodeError as error:
        # A host that is no name for a resolver; a status line that is no text.
        raise UnusableAnswer(
            f"agent {agent_id!r} has an endpoint that can't be called, or sent something that is "
            f"not an HTTP answer: {_text(error)}"
        ) from error
    except (httpx.HTTPError, httpx.StreamError, aiohttp.ClientError, OSError) as error:
        if (refused := _own_refusal(error)) is not None:
            raise refused from error
        was_connected = not is_unconnected(error)
        when = "before its answer was complete" if was_connected else "before anything was sent"
        raise AgentFailed(
            f"the connection to agent {agent_id!r} failed {when}: {_text(error)}",
            retryable=True,
            was_sent=was_connected,
            fault=Fault.FAILED if was_connected else Fault.UNAVAILABLE,
        ) from error


def _own_refusal(error: BaseException | None) -> AgentFailed | None:
    """The fence's word, which the libraries take for a connection that broke."""
    while error is not None and not isinstance(error, AgentFailed):
        error = error.__cause__
    return error


def is_unconnected(error: BaseException | None) -> bool:
    """Whether no connection came about, so that surely nothing was sent."""
    return _has_cause(error, _UNCONNECTED) or _is_unconnected_httpx2(error)


def _is_unconnected_httpx2(error: BaseException | None) -> bool:
    """Clients of other providers bring httpx2, which has httpx's names and none of its classes."""
    while error is not None:
        if type(error).__module__ == "httpx2" and type(error).__name__ in _CONNECT_NAMES:
            return True
        error = error.__cause__
    return False


_CONNECT_NAMES = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout"})


def is_undecodable(error: BaseException | None) -> bool:
    """Whether an answer came whose body can't be read."""
    return _has_cause(error, (httpx.DecodingError,))


def _has_cause(error: BaseException | None, kinds: tuple[type[Exception], ...]) -> bool:
    while error is not None:
        if isinstance(error, kinds):
            return True
        error = error.__cause__
    return False


_UNCONNECTED: tuple[type[Exception], ...] = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
)
"""Of httpx's classes, which clients of providers raise: ours raise them where they are true."""


def status_fault(status: int, *, has_retry_after: bool) -> Fault | None:
    """What a status says about the server; None where it did its part."""
    if status == 429 or (status == 503 and has_retry_after):
        return Fault.LIMITED
    if status in _UNAVAILABLE:
        return Fault.UNAVAILABLE
    return Fault.FAILED if status >= 500 else None


def retry_after_seconds(value: str | None, *, now: datetime) -> float | None:
    """What a `Retry-After` header asks for, in seconds or as a date; None where it can't be read.

    `now` is aware; a date that has passed gives 0. Fractions are no standard, but some send them.
    """
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max((at - now).total_seconds(), 0.0)


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
