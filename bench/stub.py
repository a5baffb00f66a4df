"""The model and the agents of the workload in one cheap process: HTTP by hand, answers made before.

    python -m bench.stub

Prints its port, serves until its standard input ends. `GET /report` answers what was asked since
the last report, and when the first byte of each task's first prompt arrived.
"""

import asyncio
import sys
import time
from collections import Counter
from typing import cast

import orjson
import uvloop

from bench.workload import NUMBER
from orchestrator.domain.json import JsonObject

_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = b"content-length:"
_TOOL_ANSWER = b'"tool_call_id"'
"""In each message that answers a tool call: their number tells the turn."""


def _http(body: bytes) -> bytes:
    head = f"content-type: application/json\r\ncontent-length: {len(body)}"
    return f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode() + body


def _completion(turn: int, tool: str, arguments: JsonObject) -> bytes:
    function = {"name": tool, "arguments": orjson.dumps(arguments).decode()}
    call = {"id": f"call_{turn}", "type": "function", "function": function}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    return _http(
        orjson.dumps(
            {
                "id": f"chatcmpl-bench-{turn}",
                "object": "chat.completion",
                "created": 1_900_000_000,
                "model": "bench-model",
                "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
                "usage": {"prompt_tokens": 1500, "completion_tokens": 30, "total_tokens": 1530},
            }
        )
    )


def _result(output: JsonObject) -> bytes:
    return _http(orjson.dumps({"status": "success", "output": output}))


TURNS = (
    _completion(1, "agent_bench-a", {"name": "ACME", "country": "DE"}),
    _completion(2, "agent_bench-b", {"customer_id": "C-4711"}),
    _completion(3, "complete", {"result": {"customer_id": "C-4711", "account_number": "A-1"}}),
)
RESULTS = {
    b"a": _result({"customer_id": "C-4711"}),
    b"b": _result({"account_number": "A-1"}),
}
_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"


class Log:
    """What was asked; written by the connections, emptied by a report."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.arrivals: dict[str, int] = {}

    def report(self) -> bytes:
        names = ("first", "second", "third", "a", "b")
        body = {"counts": {n: self.asked[n] for n in names}, "arrivals": self.arrivals}
        self.asked, self.arrivals = Counter(), {}
        return _http(orjson.dumps(body))


class Connection(asyncio.Protocol):
    """One connection; a request after the other."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._received = b""
        self._arrived = 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class

    def data_received(self, data: bytes) -> None:
        if not self._received:
            self._arrived = time.time_ns()
        self._received += data
        head = self._received.find(_END_OF_HEAD)
        if head < 0:
            return
        end = head + len(_END_OF_HEAD) + _content_length(self._received[:head])
        if len(self._received) < end:
            return
        request, self._received = self._received[:end], self._received[end:]
        assert self._transport is not None
        self._transport.write(self._answer(request))

    def _answer(self, request: bytes) -> bytes:
        path = request[: request.index(b"\r\n")].split(b" ")[1]
        match path.split(b"/"):
            case [b"", b"v1", b"chat", b"completions"]:
                return self._turn(request)
            case [b"", name, b"execute"] if name in RESULTS:
                self._log.asked[name.decode()] += 1
                return RESULTS[name]
            case [b"", name, b"health"] if name in RESULTS:
                return _http(b'{"ready":true}')
            case [b"", b"report"]:
                return self._log.report()
            case _:
                return _NOT_FOUND

    def _turn(self, request: bytes) -> bytes:
        turn = request.count(_TOOL_ANSWER)
        self._log.asked[("first", "second", "third", "more")[min(turn, 3)]] += 1
        if turn == 0:
            number = NUMBER.search(request)
            if number is not None:
                self._log.arrivals.setdefault(number[1].decode(), self._arrived)
        return TURNS[min(turn, 2)]


def _content_length(head: bytes) -> int:
    lower = head.lower()
    at = lower.find(_LENGTH)
    if at < 0:
        return 0
    end = lower.find(b"\r", at)
    return int(lower[at + len(_LENGTH) : end if end >= 0 else len(lower)])


async def main() -> None:
    loop = asyncio.get_running_loop()
    log = Log()
    server = await loop.create_server(lambda: Connection(log), "127.0.0.1", 0)
    async with server:
        print(orjson.dumps({"port": server.sockets[0].getsockname()[1]}).decode(), flush=True)
        # Ends with whoever started it, however that one went.
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(main())
