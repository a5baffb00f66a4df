"""An HTTP server of a few lines that answers every request with the same bytes, and counts them."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True, kw_only=True)
class Stub:
    answer: bytes | Callable[[dict[str, Any]], bytes] | None
    """The whole answer, head and body, or what makes it of a request; None never answers."""
    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    """The JSON of each request."""
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._serve_one(reader, writer):
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if b"content-length:" in line]
        body = await reader.readexactly(int(lengths[0].split(b":")[1]))
        self.bodies.append(json.loads(body))
        if self.answer is None:
            await self.closing.wait()
            return False
        answer = self.answer if isinstance(self.answer, bytes) else self.answer(self.bodies[-1])
        writer.write(answer)
        return b"connection: close" not in answer.lower()


@asynccontextmanager
async def serving(
    answer: bytes | Callable[[dict[str, Any]], bytes] | None,
) -> AsyncIterator[Stub]:
    stub = Stub(answer=answer)
    server = await asyncio.start_server(stub.serve, "127.0.0.1", 0)
    stub.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield stub
    finally:
        stub.closing.set()
        server.close()


def http_answer(
    status: int, body: object, *, headers: dict[str, str] | None = None, cut: int = 0
) -> bytes:
    """An answer with a JSON body, or with `body` as it is when it is text.

    With `cut` the body lacks its last bytes although its length promises them.
    """
    content = (body if isinstance(body, str) else json.dumps(body)).encode()
    fields = {"content-type": "application/json", "content-length": str(len(content))}
    fields |= headers or {}
    if cut:
        fields["connection"] = "close"
        content = content[:-cut]
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + content


def completion(*calls: tuple[str, str], content: str | None = None) -> dict[str, Any]:
    """A chat completion with these tool calls, `(name, arguments as text)`."""
    tool_calls = [
        {"id": f"c{n}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for n, (name, arguments) in enumerate(calls, start=1)
    ]
    message = {"role": "assistant", "content": content, "tool_calls": tool_calls or None}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "stub-1",
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14},
    }


def closing(status: int, body: object) -> bytes:
    """An answer after which nothing stays open: providers' clients keep no connection then."""
    return http_answer(status, body, headers={"connection": "close"})


def refused(text: str) -> bytes:
    return closing(400, {"error": {"message": text, "type": "invalid_request_error"}})


class Strict:
    """An endpoint that looks at earlier answers before it gives `answer`."""

    def __init__(self, answer: object, *, refuses: str = "", demands: str = "") -> None:
        """Fields of a message, or of its first call."""
        self.answer = answer
        self.refuses = refuses
        self.demands = demands

    def __call__(self, body: dict[str, Any]) -> bytes:
        for index, message in enumerate(body["messages"]):
            if message["role"] != "assistant":
                continue
            fields = {*message, *message["tool_calls"][0]}
            if self.refuses in fields:
                return refused(f"messages.{index}: property {self.refuses!r} is unsupported")
            if self.demands and self.demands not in fields:
                return refused(f"{self.demands} is missing in message at index {index}")
        return closing(200, self.answer)
