"""Serves every agent of this folder in one process: `python demo/agents/serve.py --port 8101`.

An agent is a `NAME.yaml` beside a `NAME.py` that has an `app`; it answers below `/NAME`. The delay
is added here, so that the agents themselves stay as short as they look.
"""

import argparse
import asyncio
import importlib
import random
import signal
import sys
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send


def application(*, delay_ms: float) -> ASGIApp:
    names = sorted(file.stem for file in Path(__file__).parent.glob("*.yaml"))
    app = FastAPI(title="Demo agents")

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {"ready": True, "version": "1.0.0", "capabilities": names}

    for name in names:
        app.mount(f"/{name}", importlib.import_module(name).app)
    return slowed(app, delay_ms=delay_ms)


def slowed(app: ASGIApp, *, delay_ms: float) -> ASGIApp:
    """`app`, whose POSTs take between half and one and a half times `delay_ms` longer."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            factor = random.uniform(0.5, 1.5)
            await asyncio.sleep(delay_ms * factor / 1000)
        await app(scope, receive, send)

    return serve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8101)
    parser.add_argument("--delay-ms", type=float, default=400, help="mean time of a call")
    options = parser.parse_args()
    # Uvicorn ends its work at SIGTERM, then raises the signal again: that is a clean exit too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    uvicorn.run(
        application(delay_ms=options.delay_ms),
        host=options.host,
        port=options.port,
        log_level="warning",
        lifespan="off",
        timeout_graceful_shutdown=2,
    )


if __name__ == "__main__":
    main()
