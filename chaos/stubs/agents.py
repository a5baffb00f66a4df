"""All agents of a run in a process of their own, with their own database of sends and effects.

    python -m chaos.stubs.agents RECORD

`crm`, `accounts` and `flaky` honour the idempotency key: an effect is done once a key. `payments`
does not, and has a status URL instead. `flaky` refuses the first request of one key in eight. An
effect is done at once, its answer comes a little later: a worker may die in between.
"""

import asyncio
import hashlib
import random
import sqlite3
import sys
import time
from pathlib import Path

import orjson
from aiohttp import web

from chaos.stubs.serving import opened, serve

WORKS_SECONDS = (0.005, 0.05)

TABLES = (
    "CREATE TABLE IF NOT EXISTS sends "
    "(key TEXT, task TEXT, agent TEXT, epoch INTEGER, payload TEXT, at REAL)",
    "CREATE TABLE IF NOT EXISTS effects (key TEXT, task TEXT, agent TEXT, at REAL)",
    "CREATE INDEX IF NOT EXISTS effects_key ON effects (key)",
    "CREATE INDEX IF NOT EXISTS sends_key ON sends (key)",
)

OUTPUTS = {
    "crm": {"customer_id": "C-1"},
    "accounts": {"account_number": "A-1"},
    "payments": {"receipt": "R-1"},
    "flaky": {"answer": "42"},
}
FORGETFUL = "payments"


class Agents:
    """Keeps nothing but its record."""

    def __init__(self, record: sqlite3.Connection) -> None:
        self._record = record

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/{agent}/execute", self._on_execute)
        app.router.add_get("/{agent}/status/{key:.*}", self._on_status)
        app.router.add_get("/{agent}/health", _on_health)
        return app

    async def _on_execute(self, request: web.Request) -> web.Response:
        arrived, agent = time.time(), request.match_info["agent"]
        key = request.headers["Idempotency-Key"]
        content = await request.read()
        task = orjson.loads(content)["execution_id"]
        epoch, payload = int(request.headers["X-Task-Epoch"]), _digest(content)
        self._record.execute(
            "INSERT INTO sends VALUES (?, ?, ?, ?, ?, ?)",
            (key, task, agent, epoch, payload, arrived),
        )
        is_hard = int(payload, 16) % 8 == 0
        if agent == "flaky" and is_hard and self._count("sends", key) == 1:
            return _answer({"status": "error", "error_message": "not now", "retryable": True})
        if agent == FORGETFUL or not self._count("effects", key):
            self._record.execute(
                "INSERT INTO effects VALUES (?, ?, ?, ?)", (key, task, agent, arrived)
            )
        await asyncio.sleep(random.uniform(*WORKS_SECONDS))
        return _answer({"status": "success", "output": OUTPUTS[agent]})

    async def _on_status(self, request: web.Request) -> web.Response:
        """What became of a call; 404 where it never came."""
        agent, key = request.match_info["agent"], request.match_info["key"]
        if not self._count("effects", key):
            return web.Response(status=404)
        return _answer({"status": "success", "output": OUTPUTS[agent]})

    def _count(self, table: str, key: str) -> int:
        found = self._record.execute(f"SELECT count(*) FROM {table} WHERE key = ?", (key,))
        count: int = found.fetchone()[0]
        return count


async def _on_health(_: web.Request) -> web.Response:
    return web.json_response({"ready": True})


def _answer(body: dict[str, object]) -> web.Response:
    return web.Response(body=orjson.dumps(body), content_type="application/json")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


if __name__ == "__main__":
    asyncio.run(serve(Agents(opened(Path(sys.argv[1]), *TABLES)).application()))
