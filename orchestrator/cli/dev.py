"""`orchestrator dev`: Kafka, PostgreSQL, demo agents, a demo LLM, migrations and a worker in one.

Data stays under `.orchestrator/` between runs. Whatever the environment names (`DATABASE_URL`,
`KAFKA_BOOTSTRAP_SERVERS`, `OPENAI_API_KEY`, `ORCHESTRATOR_AGENTS_DIR`) is used instead of ours.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.output import note
from orchestrator.cli.session import DATA_DIR, DEV_ADDRESSES
from orchestrator.cli.signals import Stop
from orchestrator.cli.worker import Verbose, options_of, run_loop, run_worker, set_up_logs
from orchestrator.local.demo import DEMO_MODEL, DemoServers
from orchestrator.local.stack import LocalServers
from orchestrator.settings import Settings, load_settings
from orchestrator.store import migrations

app = typer.Typer(add_completion=False, rich_markup_mode=None)

NEXT_STEPS = """\
In another terminal, from this folder:
  orchestrator publish task 'Register the customer ACME' --require customer_id
  orchestrator tasks watch
Ctrl-C ends everything; the data stays."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """What runs, and the settings with which a worker uses it."""

    settings: Settings
    addresses: Mapping[str, str] = field(repr=False)
    """The variables that lead another command to it."""
    parts: tuple[tuple[str, str], ...]
    """(what, where) of each part, for people."""


@asynccontextmanager
async def local_stack(
    data_dir: Path, environ: Mapping[str, str], *, say: Say
) -> AsyncIterator[Stack]:
    """Everything but the worker, started and migrated; what is ours is stopped at the end.

    Raises:
        LocalServerError: a part could not start; the text has its last words.
        InvalidSettings: a variable is wrong.
    """
    started = time.monotonic()
    environ = load_settings(environ, needs=()).environ
    has_model = bool(environ.get("OPENAI_API_KEY") or environ.get("OPENAI_BASE_URL"))
    servers = LocalServers(
        data_dir,
        kafka_bootstrap_servers=environ.get("KAFKA_BOOTSTRAP_SERVERS"),
        database_url=environ.get("DATABASE_URL"),
        say=say,
    )
    demo = DemoServers(data_dir, with_model=not has_model)
    try:
        say("Starting Apache Kafka, PostgreSQL, the demo agents and the demo LLM …")
        await _all(servers.start(), demo.start())
        await asyncio.to_thread(migrations.upgrade, servers.database_url)
        say(f"Ready after {time.monotonic() - started:.1f} s.")
        yield _stack(servers, demo, environ)
    finally:
        await asyncio.gather(demo.stop(), servers.stop())


async def _all(*starts: Awaitable[None]) -> None:
    # Not a task group: its error would be a tree of tracebacks, and one line is wanted.
    for failure in await asyncio.gather(*starts, return_exceptions=True):
        if failure is not None:
            raise failure


def _stack(servers: LocalServers, demo: DemoServers, environ: Mapping[str, str]) -> Stack:
    addresses = {
        "DATABASE_URL": servers.database_url,
        "KAFKA_BOOTSTRAP_SERVERS": servers.bootstrap_servers,
        "DEMO_AGENTS_URL": demo.agents_url,
    }
    if demo.model_url is not None:
        # By its own name, or the journal would say that another model decided.
        model = environ.get("LLM_MODEL") or DEMO_MODEL
        addresses |= {
            "OPENAI_BASE_URL": demo.model_url,
            "OPENAI_API_KEY": "demo",
            "LLM_MODEL": model,
        }
    allowed = environ.get("ORCHESTRATOR_DECLARATION_VARIABLES")
    if allowed:
        # The demo's declarations are read beside your own.
        addresses["ORCHESTRATOR_DECLARATION_VARIABLES"] = f"{allowed},DEMO_AGENTS_URL"
    defaults = {
        "ORCHESTRATOR_AGENTS_DIR": str(demo.declarations),
        "ORCHESTRATOR_WORKER_NAME": "dev",
        "ORCHESTRATOR_LOG_FORMAT": "console",
        "ORCHESTRATOR_HEALTH_HOST": "127.0.0.1",
        "PORT": "0",
    }
    return Stack(
        settings=load_settings({**defaults, **environ, **addresses}, env_file=None),
        addresses=addresses,
        parts=(
            ("PostgreSQL", _without_password(servers)),
            ("Apache Kafka", servers.bootstrap_servers),
            ("LLM", demo.model_url or "your own, as in OPENAI_API_KEY or OPENAI_BASE_URL"),
            ("demo agents", demo.agents_url),
        ),
    )


def _without_password(servers: LocalServers) -> str:
    if servers.postgres is None:
        return "as in DATABASE_URL"
    return f"127.0.0.1:{servers.postgres.port}; `source {DEV_ADDRESSES}` sets DATABASE_URL"


@contextmanager
def announced(data_dir: Path, stack: Stack) -> Iterator[None]:
    """While inside, commands started from the same folder find the stack by themselves."""
    path = data_dir / DEV_ADDRESSES.name
    path.touch(mode=0o600)
    path.chmod(0o600)  # also one that an earlier release left
    path.write_text("".join(f"{name}={value}\n" for name, value in stack.addresses.items()))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def addresses_text(stack: Stack) -> str:
    """Where everything is, for people."""
    width = max(len(what) for what, _ in stack.parts)
    return "\n".join(f"  {what:<{width}}  {where}" for what, where in stack.parts)


Data = Annotated[
    Path, typer.Option("--data", help="Folder for the servers' data; kept between runs.")
]


@app.command()
def dev(*, data: Data = DATA_DIR, verbose: Verbose = False) -> None:
    """Run everything on this machine until Ctrl-C; data stays between runs."""
    raise typer.Exit(run_loop(_dev(data, os.environ, verbose=verbose)))


async def _dev(data_dir: Path, environ: Mapping[str, str], *, verbose: bool) -> int:
    with Stop().listening() as stop:
        try:
            async with local_stack(data_dir, environ, say=note) as stack:
                note(addresses_text(stack))
                note(NEXT_STEPS)
                overrides = set_up_logs(stack.settings, verbose=verbose)
                with announced(data_dir, stack):
                    options, health = options_of(stack.settings), stack.settings.health
                    return await run_worker(options, health, stop=stop, overrides=overrides)
        except asyncio.CancelledError:
            if not stop.is_asked:
                raise
            return 1 if stop.is_forced else 0
