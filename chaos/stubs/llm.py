"""The model of a run, a process of its own: answers by the kind of a task, and notes each prompt.

    python -m chaos.stubs.llm RECORD

Prompts are in the SQLite file `RECORD`, in the order of their arrival.
"""

import asyncio
import random
import sqlite3
import sys
import time
from pathlib import Path

import orjson
from aiohttp import web

from chaos.kinds import GRANTED, POISON, kind_of, next_calls, tool_calls
from chaos.stubs.chat import completion, task_of, turn_of
from chaos.stubs.serving import opened, serve

THINKS_SECONDS = (0.005, 0.03)
NEVER_SECONDS = 3600.0

TABLES = "CREATE TABLE IF NOT EXISTS prompts (task TEXT, turn INTEGER, at REAL)"


class Llm:
    """Keeps nothing but its record."""

    def __init__(self, record: sqlite3.Connection) -> None:
        self._record = record
        self._answered = 0

    def application(self) -> web.Application:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/chat/completions", self._on_prompt)
        return app

    async def _on_prompt(self, request: web.Request) -> web.Response:
        arrived = time.time()
        body = await request.read()
        messages = orjson.loads(body)["messages"]
        task = task_of(messages)
        self._record.execute(
            "INSERT INTO prompts VALUES (?, ?, ?)", (task, turn_of(messages), arrived)
        )
        if kind_of(task) == POISON:
            await asyncio.sleep(NEVER_SECONDS)
        await asyncio.sleep(random.uniform(*THINKS_SECONDS))
        calls = next_calls(task, made=tool_calls(messages), has_event=GRANTED.encode() in body)
        self._answered += 1
        texts = tuple((tool, orjson.dumps(arguments).decode()) for tool, arguments in calls)
        answer = completion(number=self._answered, tool_calls=texts)
        return web.Response(body=orjson.dumps(answer), content_type="application/json")


if __name__ == "__main__":
    asyncio.run(serve(Llm(opened(Path(sys.argv[1]), TABLES)).application()))
