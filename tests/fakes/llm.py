"""An OpenAI-compatible endpoint that plans by rule, answers from a script, and counts its prompts.

A task is known by its id in brackets at the start of its description, a turn by the number of
decisions that the conversation holds: the same turn asked for twice is the same journaled decision.
"""

import asyncio
import json
import socket
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from chaos.stubs.chat import completion, task_of, turn_of
from demo.llm.rules import plan
from tests.fakes.responses_api import as_chat, as_response

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one prompt gets."""

    content: str | None = None
    tool_calls: tuple[tuple[str, str], ...] = ()
    """Tools with their arguments as text."""
    code: int = 200
    body: str | None = None
    """The whole body, in place of a completion."""
    content_type: str = "application/json"
    ids: tuple[Any, ...] = ()
    """Of the calls, in place of ids of their own."""
    beside: Json = field(default_factory=dict)
    """Fields of the completion, in place of its own."""
    choice: Json = field(default_factory=dict)
    """Fields of the choice, in place of its own."""
    headers: dict[str, str] = field(default_factory=dict)
    hangs: bool = False


HANG = Answer(hangs=True)
EMPTY = Answer()


def calls(*pairs: tuple[str, Json]) -> Answer:
    return Answer(tool_calls=tuple((tool, json.dumps(arguments)) for tool, arguments in pairs))


def broken(tool: str, arguments: str) -> Answer:
    """A call whose arguments are no JSON."""
    return Answer(tool_calls=((tool, arguments),))


def text(words: str) -> Answer:
    return Answer(content=words)


def refused(code: int, **headers: str) -> Answer:
    """`headers` with `_` for `-`."""
    return Answer(code=code, headers={n.replace("_", "-"): v for n, v in headers.items()})


def raw(body: str, *, code: int = 200, content_type: str = "application/json") -> Answer:
    return Answer(body=body, code=code, content_type=content_type)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One request, as it arrived."""

    task_id: str
    turn: int
    """Decisions that the journal held."""
    at: float
    """Seconds of wall clock."""
    tools: tuple[str, ...]
    messages: tuple[Json, ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request, also one that is refused."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Json


Refusal = tuple[int, Any]
"""A status and a body."""


class FakeLlm:
    """Scripted a task at a time (`will`); every other prompt is answered by the demo's rules."""

    def __init__(self, *, think_seconds: float = 0.0) -> None:
        self.url = ""
        self.think_seconds = think_seconds
        self.prompts: list[Prompt] = []
        self.refuses: Callable[[Request], Refusal | None] = lambda _: None
        """What this endpoint does not take; a prompt is one that it takes."""
        self.requests: list[Request] = []
        self.refused: list[Request] = []
        self.gives_objects = False
        """Arguments are objects, not their texts."""
        self.closes = False
        """Each connection after its answer: some packages never close their own."""
        self._script: dict[str, deque[Answer]] = {}
        self._arrived = asyncio.Condition()
        self._released = asyncio.Event()

    def will(self, task_id: str, *answers: Answer) -> None:
        """The task's next prompts get these, in order."""
        self._script.setdefault(task_id, deque()).extend(answers)

    def of(self, task_id: str) -> list[Prompt]:
        """The prompts of one task, in their order."""
        return [prompt for prompt in self.prompts if prompt.task_id == task_id]

    @property
    def asked(self) -> Counter[tuple[str, int]]:
        """How often each task was asked for each of its turns."""
        return Counter((prompt.task_id, prompt.turn) for prompt in self.prompts)

    async def wait_for_prompts(self, count: int, *, task_id: str, seconds: float = 20) -> None:
        async with asyncio.timeout(seconds), self._arrived:
            await self._arrived.wait_for(lambda: len(self.of(task_id)) >= count)

    def release(self) -> None:
        """Ends every `HANG`."""
        self._released.set()

    def application(self) -> web.Application:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/{path:.+}", self._on_prompt)
        app.router.add_get("/v1/models", _on_models)
        app.on_response_prepare.append(self._on_answer)
        return app

    async def _on_answer(self, _: web.Request, response: web.StreamResponse) -> None:
        if self.closes:
            response.force_close()

    async def _on_prompt(self, request: web.Request) -> web.Response:
        arrived = time.time()
        asked = Request(
            path=request.path,
            query=dict(request.query),
            headers={name.lower(): value for name, value in request.headers.items()},
            body=await request.json(),
        )
        self.requests.append(asked)
        if refusal := self.refuses(asked):
            self.refused.append(asked)
            return web.json_response(refusal[1], status=refusal[0])
        is_response = asked.path.endswith("/responses")
        body = as_chat(asked.body) if is_response else asked.body
        prompt = _read(body, at=arrived)
        async with self._arrived:
            self.prompts.append(prompt)
            self._arrived.notify_all()
        answer = self._answer(prompt, body)
        if answer.hangs:
            await self._released.wait()
            return web.json_response({"error": {"message": "released"}}, status=500)
        await asyncio.sleep(self.think_seconds)
        if answer.body is not None:
            return web.Response(
                status=answer.code, text=answer.body, content_type=answer.content_type
            )
        if answer.code != 200:
            error = {"error": {"message": f"scripted {answer.code}", "type": "scripted"}}
            return web.json_response(error, status=answer.code, headers=answer.headers)
        told = _completion(answer, number=len(self.prompts))
        if self.gives_objects:
            for call in told["choices"][0]["message"].get("tool_calls", ()):
                call["function"]["arguments"] = json.loads(call["function"]["arguments"])
        return web.json_response(as_response(told) if is_response else told)

    def _answer(self, prompt: Prompt, body: Json) -> Answer:
        script = self._script.get(prompt.task_id)
        if script:
            return script.popleft()
        return calls(*plan(body["messages"], body["tools"]))


def _completion(answer: Answer, *, number: int) -> Json:
    made = completion(number=number, content=answer.content, tool_calls=answer.tool_calls)
    (choice,) = made["choices"]
    for call, call_id in zip(choice["message"].get("tool_calls") or (), answer.ids, strict=False):
        call["id"] = call_id
    choice["message"] |= answer.choice.get("message", {})
    made["choices"] = [{**choice, **answer.choice, "message": choice["message"]}]
    return {**made, **answer.beside}


async def _on_models(_: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": [{"id": "fake", "object": "model"}]})


def _read(body: Json, *, at: float) -> Prompt:
    messages = body["messages"]
    return Prompt(
        task_id=task_of(messages),
        turn=turn_of(messages),
        at=at,
        tools=tuple(tool["function"]["name"] for tool in body.get("tools", ())),
        messages=tuple(messages),
    )


@asynccontextmanager
async def running_llm(*, think_seconds: float = 0.0) -> AsyncIterator[FakeLlm]:
    """A fake model on a free port of loopback; `url` is what `OPENAI_BASE_URL` takes."""
    llm = FakeLlm(think_seconds=think_seconds)
    runner = web.AppRunner(llm.application(), access_log=None, shutdown_timeout=0)
    await runner.setup()
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listening:
        await web.SockSite(runner, listening).start()
        llm.url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        try:
            yield llm
        finally:
            llm.release()
            await runner.cleanup()
