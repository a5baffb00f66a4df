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


async def _report(checks: Mapping[str, Check], *, tells_why: bool) -> JSONResponse:
    """200 where every check is well, else 503 with the names of those that are not, and why."""
    outcomes = await asyncio.gather(*(_outcome(check) for check in checks.values()))
    reasons = {name: reason for name, reason in zip(checks, outcomes, strict=True) if reason}
    if not reasons:
        return JSONResponse({"status": "ok", "checks": list(checks)})
    told = {"reasons": reasons} if tells_why else {"failed": list(reasons)}
    return JSONResponse({"status": "unavailable", **told}, UNAVAILABLE)


def health_application(
    *, live: Mapping[str, Check], ready: Mapping[str, Check], is_open: bool = False
) -> FastAPI:
    """The routes over named checks; a process is ready only while it is live.

    `is_open`: anybody may ask, so nothing is said but which checks fail.
    """
    app = FastAPI(title="orchestrator health", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/livez")
    async def livez() -> JSONResponse:
        return await _report(live, tells_why=not is_open)

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        return await _report({**live, **ready}, tells_why=not is_open)

    if not is_open:

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
    """Serves the probes and the metrics until stopped, on one port or on two."""

    def __init__(
        self,
        options: HealthOptions,
        *,
        live: Mapping[str, Check],
        ready: Mapping[str, Check],
    ) -> None:
        has_two = options.metrics_port is not None
        application = health_application(live=live, ready=ready, is_open=has_two)
        self._listeners = [_Listener("PORT", options.host, options.port, application)]
        if options.metrics_port is not None:
            host, port = options.metrics_host or options.host, options.metrics_port
            application = health_application(live=live, ready=ready)
            self._listeners.append(_Listener("ORCHESTRATOR_METRICS_PORT", host, port, application))

    def bind(self) -> tuple[str, str]:
        """Takes the ports, so that `run` can't fail for them: addresses of probes and metrics.

        Raises:
            InvalidSettings: a port is taken, or a host is not one of this machine.
        """
        addresses = [listener.bind() for listener in self._listeners]
        return addresses[0], addresses[-1]

    async def run(self) -> None:
        """Serves until `stop`; `bind` comes first."""
        async with asyncio.TaskGroup() as group:
            for listener in self._listeners:
                group.create_task(listener.run(), name=listener.variable)

    def stop(self) -> None:
        """Lets `run` come to its end, within a second."""
        for listener in self._listeners:
            listener.stop()


class _Listener:
    """One application on one port."""

    def __init__(self, variable: str, host: str, port: int, application: FastAPI) -> None:
        self.variable = variable
        """The setting that names the port."""
        self._host, self._port = host, port
        self._socket: socket.socket | None = None
        self._server = _Embedded(
            uvicorn.Config(
                application,
                log_config=None,
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=1,
                server_header=False,
            )
        )

    def bind(self) -> str:
        host, port = self._host, self._port
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._socket = socket.create_server((host, port), family=family)
        except OSError as error:
            raise InvalidSettings(
                f"{self.variable} is {port}, but nothing can listen on {host}:{port} "
                f"({error.strerror}); set {self.variable} to a free port, or to 0 for any"
            ) from error
        bound = self._socket.getsockname()[1]
        shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104 - compared only
        return f"http://{shown}:{bound}"

    async def run(self) -> None:
        assert self._socket is not None, "bind first"
        await self._server.serve(sockets=[self._socket])

    def stop(self) -> None:
        self._server.should_exit = True
