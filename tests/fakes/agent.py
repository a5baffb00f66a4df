"""An agent that is a real HTTP server: scripted to answer well or badly, and counting what it did.

It honours its keys: an effect is done once a key, and asked again it answers the same. Runs within
a test (`running_agent`), or as a process (`python -m tests.fakes.agent --port 8200`), where
`GET /_counts` reads the counters and `POST /_script` takes a list of behaviours for the next
requests. Every path that ends in `/execute` is served, so that one process can play several agents.
"""

import argparse
import asyncio
import json
import socket
import zlib
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal

from aiohttp import web

CHUNK = b" " * 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What one request gets, after `delay_seconds`."""

    kind: Literal["answer", "held", "hang", "reset", "cut_off", "huge", "gzip_bomb"] = "answer"
    code: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    raw: bytes = b""
    """The body where it is no text."""
    size: int = 0
    """Bytes of `huge` and, decompressed, of `gzip_bomb`."""
    delay_seconds: float = 0.0

    @property
    def has_effect(self) -> bool:
        return self.kind in ("answer", "held") and self.code < 300


def ok(output: dict[str, Any] | None = None, **more: Any) -> Behaviour:
    return Behaviour(body=json.dumps({"status": "success", "output": output or {}, **more}))


def failed(message: str, **more: Any) -> Behaviour:
    return Behaviour(body=json.dumps({"status": "error", "error_message": message, **more}))


def input_required(question: str) -> Behaviour:
    return Behaviour(body=json.dumps({"status": "input_required", "error_message": question}))


def status(code: int, *, body: str = "", **headers: str) -> Behaviour:
    """`headers` with `_` for `-`: `status(503, Retry_After="1")`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Behaviour(code=code, body=body, headers=named)


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    method: str
    path: str
    headers: dict[str, str]
    """By lower-case name."""
    content: str

    @property
    def key(self) -> str:
        return self.headers.get("idempotency-key", "")

    @property
    def body(self) -> Any:
        return json.loads(self.content)


class FakeAgent:
    """Answers `script` in order, then `default` for ever; with `honours_keys=False`, also twice."""

    def __init__(self, default: Behaviour | None = None, *, honours_keys: bool = True) -> None:
        self.default = default or ok()
        self.honours_keys = honours_keys
        self.repeats_at_once = False
        """Whether an answer that is known already comes without its delay, and is not held."""
        self.url = ""
        self.health = Behaviour(body='{"ready": true, "version": "1.2.0", "capabilities": ["x"]}')
        self.status = status(404)
        self.on_cancel = status(204)
        self.cancelled: Counter[str] = Counter()
        self.received: list[Received] = []
        self.sends: Counter[str] = Counter()
        self.effects: Counter[str] = Counter()
        self.epochs: dict[str, list[str]] = {}
        self.concurrent = 0
        self.max_concurrent = 0
        self._script: deque[Behaviour] = deque()
        self._given: dict[str, Behaviour] = {}
        self._unanswered: list[web.Request] = []
        self._arrived = asyncio.Condition()
        self._released = asyncio.Event()

    def will(self, *behaviours: Behaviour) -> None:
        """The next requests get these, in order."""
        self._script.extend(behaviours)

    async def wait_for_sends(self, number: int, *, timeout_seconds: float = 40.0) -> None:
        """Returns when that many requests have come, whatever became of them."""
        async with asyncio.timeout(timeout_seconds), self._arrived:
            await self._arrived.wait_for(lambda: self.sends.total() >= number)

    def is_asked(self, key: str) -> bool:
        """Whether a request with this key has no answer yet and its sender still waits for one."""
        asking = [r for r in self._unanswered if r.transport is not None]
        return any(r.headers.get("Idempotency-Key") == key for r in asking)

    def release(self) -> None:
        """Ends every `hang`, and answers all that is `held`."""
        self._released.set()

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/_counts", self._on_counts)
        app.router.add_post("/_script", self._on_script)
        app.router.add_post("/{agent:.*}execute", self._on_execute)
        app.router.add_get("/{agent:.*}health", self._on_health)
        app.router.add_get("/{agent:.*}status{key:.*}", self._on_status)
        app.router.add_post("/{agent:.*}cancel{key:.*}", self._on_cancel)
        return app

    async def _on_counts(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "requests": len(self.received),
                "sends": self.sends,
                "effects": self.effects,
                "epochs": self.epochs,
                "max_concurrent": self.max_concurrent,
            }
        )

    async def _on_script(self, request: web.Request) -> web.Response:
        self.will(*(Behaviour(**behaviour) for behaviour in await request.json()))
        return web.json_response({"scripted": len(self._script)})

    async def _on_health(self, request: web.Request) -> web.StreamResponse:
        return await self._respond(request, self.health)

    async def _on_status(self, request: web.Request) -> web.StreamResponse:
        await self._record(request)
        return await self._respond(request, self.status)

    async def _on_cancel(self, request: web.Request) -> web.StreamResponse:
        received = await self._record(request)
        self.cancelled[received.key] += 1
        return await self._respond(request, self.on_cancel)

    async def _on_execute(self, request: web.Request) -> web.StreamResponse:
        self.concurrent += 1
        self._unanswered.append(request)
        self.max_concurrent = max(self.max_concurrent, self.concurrent)
        try:
            received = await self._record(request)
            behaviour = self._behaviour(received.key)
            await self._count(received)
            return await self._respond(request, behaviour)
        finally:
            self._unanswered.remove(request)
            self.concurrent -= 1

    def _behaviour(self, key: str) -> Behaviour:
        """The effect is done here, before any delay: an agent may die or hang after it."""
        if self.honours_keys and key in self._given:
            given = self._given[key]
            at_once = replace(given, kind="answer", delay_seconds=0.0)
            return at_once if self.repeats_at_once else given
        behaviour = self._script.popleft() if self._script else self.default
        if behaviour.has_effect:
            self._given[key] = behaviour
            self.effects[key] += 1
        return behaviour

    async def _record(self, request: web.Request) -> Received:
        received = Received(
            method=request.method,
            path=request.path_qs,
            headers={name.lower(): value for name, value in request.headers.items()},
            content=await request.text(),
        )
        self.received.append(received)
        return received

    async def _count(self, received: Received) -> None:
        async with self._arrived:
            self.sends[received.key] += 1
            epoch = received.headers.get("x-task-epoch", "")
            self.epochs.setdefault(received.key, []).append(epoch)
            self._arrived.notify_all()

    async def _respond(self, request: web.Request, behaviour: Behaviour) -> web.StreamResponse:
        await asyncio.sleep(behaviour.delay_seconds)
        match behaviour.kind:
            case "answer":
                return _answer(behaviour)
            case "held":
                await self._released.wait()
                return _answer(behaviour)
            case "hang":
                await self._released.wait()
            case "reset":
                _transport(request).abort()
            case "cut_off":
                return await _stream(request, [b'{"status": "succ'], {"Content-Length": "1000"})
            case "huge":
                chunks = [CHUNK] * (behaviour.size // len(CHUNK))
                return await _stream(request, chunks, behaviour.headers)
            case "gzip_bomb":
                headers = {"Content-Encoding": "gzip"}
                return await _stream(request, [gzip_bomb(behaviour.size)], headers)
        return web.Response(status=500)


def _answer(behaviour: Behaviour) -> web.Response:
    headers = {"Content-Type": "application/json", **behaviour.headers}
    body = behaviour.raw or behaviour.body.encode()
    return web.Response(status=behaviour.code, headers=headers, body=body)


@lru_cache(maxsize=4)
def gzip_bomb(size: int) -> bytes:
    """About a thousandth of the `size` bytes that it decompresses to; made without holding them."""
    stream = zlib.compressobj(level=9, wbits=zlib.MAX_WBITS | 16)
    chunks = [stream.compress(CHUNK) for _ in range(size // len(CHUNK))]
    return b"".join([*chunks, stream.flush()])


async def _stream(
    request: web.Request, chunks: list[bytes], headers: dict[str, str]
) -> web.StreamResponse:
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    try:
        for chunk in chunks:
            await response.write(chunk)
    except ConnectionResetError:
        return response
    _transport(request).close()
    return response


def _transport(request: web.Request) -> asyncio.Transport:
    assert isinstance(request.transport, asyncio.Transport)
    return request.transport


@asynccontextmanager
async def running_agent(
    default: Behaviour | None = None, *, honours_keys: bool = True
) -> AsyncIterator[FakeAgent]:
    """A fake agent on a free port of loopback; `url` is its endpoint."""
    agent = FakeAgent(default, honours_keys=honours_keys)
    runner = web.AppRunner(agent.application(), access_log=None, shutdown_timeout=0)
    await runner.setup()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        await web.SockSite(runner, listening).start()
        agent.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        try:
            yield agent
        finally:
            agent.release()
            await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--output", default="{}", help="JSON object of the default answer")
    parser.add_argument("--delay-ms", type=float, default=0)
    parser.add_argument("--ignore-keys", action="store_true", help="do an effect at each request")
    options = parser.parse_args()

    async def application() -> web.Application:
        answer = ok(json.loads(options.output))
        default = Behaviour(body=answer.body, delay_seconds=options.delay_ms / 1000)
        return FakeAgent(default, honours_keys=not options.ignore_keys).application()

    web.run_app(
        application(),
        host=options.host,
        port=options.port,
        access_log=None,
        print=None,
        shutdown_timeout=0,
    )


if __name__ == "__main__":
    main()
