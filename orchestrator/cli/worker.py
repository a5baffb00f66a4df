"""`orchestrator worker`: one worker process with its probes, until a signal ends it."""

import asyncio
import gc
import os
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from typing import Annotated

import typer
import uvloop

from orchestrator.api.health import HealthServer
from orchestrator.app import App, Options, Overrides, open_app
from orchestrator.cli.signals import Stop
from orchestrator.cli.verbose import show_turn
from orchestrator.domain.errors import OrchestratorError
from orchestrator.settings import Settings, load_settings
from orchestrator.telemetry.health import Check, HealthOptions
from orchestrator.telemetry.logs import configure_logs, get_logger

app = typer.Typer(add_completion=False, rich_markup_mode=None)

AFTER_GRACE_SECONDS = 20.0
"""What the last writes and the good-byes may take when the grace for calls is over: each has a
deadline of its own, and together they have that many where PostgreSQL does not answer at all."""

YOUNG_OBJECTS = 10_000
"""Made before the collector looks at them; the interpreter's 700 are less than one prompt's."""

log = get_logger(__name__)


Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose", "-v", help="Show each prompt, decision and agent call as it happens."
    ),
]


@app.command()
def worker(*, verbose: Verbose = False) -> None:
    """Read messages and run tasks until SIGTERM or Ctrl-C; a second one skips the grace."""
    settings = load_settings(os.environ)
    overrides = set_up_logs(settings, verbose=verbose)
    raise typer.Exit(run_loop(_work(settings, overrides)))


async def _work(settings: Settings, overrides: Overrides) -> int:
    with Stop().listening() as stop:
        return await run_worker(
            options_of(settings), settings.health, stop=stop, overrides=overrides
        )


def set_up_logs(settings: Settings, *, verbose: bool) -> Overrides:
    """Logs as the settings say; what the worker needs to show its turns, where that is wanted."""
    is_verbose = verbose or settings.logs.verbose
    configure_logs(replace(settings.logs, verbose=is_verbose))
    return Overrides(on_turn=show_turn) if is_verbose else Overrides()


def options_of(settings: Settings) -> Options:
    """What a worker is built from, as the environment says."""
    return Options(
        database=settings.database,
        bus=settings.bus,
        engine=settings.engine,
        model=settings.model,
        agentic=settings.agentic,
        migrates=settings.migrates,
        agents_dir=settings.agents_dir,
        declarations=settings.declarations,
    )


def run_loop(work: Coroutine[object, object, int]) -> int:
    """Runs a process's main coroutine on the fast event loop; its exit code."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def spare_the_collector() -> None:
    """Takes what start-up made out of the garbage collector's sight; to be called after it.

    A quarter of a million objects of libraries stay for ever. Walking them all again and again
    takes a tenth of the CPU, and halts every task for 0.15 s each time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)


async def run_worker(
    options: Options, health: HealthOptions, *, stop: Stop, overrides: Overrides = Overrides()
) -> int:
    """A worker until `stop` ends it: 0 after a gentle end, 1 after any other."""
    probes = _Probes()
    server = HealthServer(health, live=probes.live(), ready=probes.ready())
    probed, measured = server.bind()
    log.info("probes and metrics", livez=f"{probed}/livez", metrics=f"{measured}/metrics")
    serving = asyncio.create_task(server.run(), name="probes")
    try:
        async with open_app(options, overrides) as app:
            probes.app = app
            spare_the_collector()
            grace = options.engine.grace.total_seconds()
            stop.ends_gently(app.stop, within_seconds=grace + AFTER_GRACE_SECONDS)
            await app.run()
    except asyncio.CancelledError:
        if not stop.is_asked:
            raise
        if stop.is_forced:
            log.warning("stopped at once; tasks under way go on elsewhere after the lease")
    except ExceptionGroup as group:
        _tell_why(group)
        return 1
    finally:
        server.stop()
        await serving
    return 1 if stop.is_forced else 0


def _tell_why(group: ExceptionGroup[Exception]) -> None:
    """A part of the worker died, and took the others with it: each reason, once."""
    for error in group.exceptions:
        if isinstance(error, ExceptionGroup):
            _tell_why(error)
        elif isinstance(error, OrchestratorError):
            log.error("worker died", error=str(error))
        else:
            log.error("worker died", error=repr(error), exc_info=error)


class _Probes:
    """What the probes say before, while and after the worker works."""

    def __init__(self) -> None:
        self.app: App | None = None

    def live(self) -> Mapping[str, Check]:
        return {"worker": self._heart}

    def ready(self) -> Mapping[str, Check]:
        return {
            "worker": self._started,
            "postgresql": self._database,
            "kafka": self._intake,
            "publishing": self._publishing,
        }

    async def _heart(self) -> str | None:
        # That this is answered at all says that the event loop works.
        return self.app.session_problem() if self.app else None

    async def _started(self) -> str | None:
        return None if self.app is not None else "waits for PostgreSQL or Kafka to start"

    async def _database(self) -> str | None:
        return await self.app.database_problem() if self.app else "not connected yet"

    async def _intake(self) -> str | None:
        return self.app.intake_problem() if self.app else "not connected yet"

    async def _publishing(self) -> str | None:
        return self.app.publishing_problem() if self.app else "not connected yet"
