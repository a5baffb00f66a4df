"""Probes and metrics of every process: `/livez`, `/readyz`, `/metrics`, and a server for them.

`/livez` asks only whether this process works; it never asks Kafka or PostgreSQL, or an outage of
theirs would restart every worker. A PostgreSQL that answers and refuses is no outage: after a
minute of that the process counts as broken.
"""

import asyncio
import contextlib
import socket
from collections.abc import Iterator, Mapping

import uvicorn
from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse

from orchestrator.domain.errors import InvalidSettings, OrchestratorError
from orchestrator.telemetry.health import Check, HealthOptions
from orchestrator.telemetry.metrics import CONTENT_TYPE, exposition

CHECK_SECONDS = 2.0
UNAVAILABLE = 503


async def _outcome(check: Check) -> str | None:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await check()
    except TimeoutError:
        return f"no answer within {CHECK_SECONDS:g} s"
    except OrchestratorError as error:
        return str(error)


async def _report(checks: Mapping[str, Check]) -> JSONResponse:
    """200 where every check is well, else 503 with the reasons by name."""
    outcomes = await asyncio.gather(*(_outcome(check) for check in checks.values()))
    reasons = {name: reason for name, reason in zip(checks, outcomes, strict=True) if reason}
    if reasons:
        return JSONResponse({"status": "unavailable", "reasons": reasons}, UNAVAILABLE)
    return JSONResponse({"status": "ok", "checks": list(checks)})


def health_application(*, live: Mapping[str, Check], ready: Mapping[str, Check]) -> FastAPI:
    """The three routes over named checks; a process is ready only while it is live."""
    app = FastAPI(title="orchestrator health", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/livez")
    async def livez() -> JSONResponse:
        return await _report(live)

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        return await _report({**live, **ready})

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(exposition(), media_type=CONTENT_TYPE)

    return app


class _Embedded(uvicorn.Server):
    """uvicorn as a part of a process that handles its own signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HealthServer:
    """Serves the probes until stopped."""

    def __init__(
        self,
        options: HealthOptions,
        *,
        live: Mapping[str, Check],
        ready: Mapping[str, Check],
    ) -> None:
        self._options = options
        self._socket: socket.socket | None = None
        self._server = _Embedded(
            uvicorn.Config(
                health_application(live=live, ready=ready),
                log_config=None,
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=1,
                server_header=False,
            )
        )

    def bind(self) -> str:
        """Takes the port, so that `run` can't fail for it; answers the address to ask.

        Raises:
            InvalidSettings: the port is taken, or the host is not one of this machine.
        """
        host, port = self._options.host, self._options.port
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._socket = socket.create_server((host, port), family=family)
        except OSError as error:
            raise InvalidSettings(
                f"PORT is {port}, but nothing can listen on {host}:{port} ({error.strerror}); "
                "set PORT to a free port, or to 0 for any"
            ) from error
        bound = self._socket.getsockname()[1]
        shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104 - compared only
        return f"http://{shown}:{bound}"

    async def run(self) -> None:
        """Serves until `stop`; binds first where nobody did."""
        if self._socket is None:
            self.bind()
        assert self._socket is not None
        await self._server.serve(sockets=[self._socket])

    def stop(self) -> None:
        """Lets `run` come to its end, within a second."""
        self._server.should_exit = True
