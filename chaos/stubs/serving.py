"""What the stubs' processes share: a record in SQLite that outlives them, and a server on loopback.

The port is told as a JSON line; the process ends with its standard input.
"""

import asyncio
import socket
import sqlite3
import sys
from pathlib import Path

import orjson
from aiohttp import web


def opened(file: Path, *tables: str) -> sqlite3.Connection:
    """Each statement commits by itself. It survives the process, not the machine."""
    record = sqlite3.connect(file, isolation_level=None)
    record.execute("PRAGMA journal_mode = WAL")
    record.execute("PRAGMA synchronous = OFF")
    for table in tables:
        record.execute(table)
    return record


async def serve(app: web.Application) -> None:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listening:
        await web.SockSite(runner, listening).start()
        print(orjson.dumps({"port": listening.getsockname()[1]}).decode(), flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await runner.cleanup()
