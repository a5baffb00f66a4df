"""What commands have in common: settings, a database for as long as one command takes, the loop."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any, TypeVar

from orchestrator.settings import Need, Settings, load_settings
from orchestrator.store.database import Database
from orchestrator.telemetry.logs import LogOptions, configure_logs

T = TypeVar("T")


def settings_for(*needs: Need) -> Settings:
    """The settings that a command needs, from the environment and `.env`; logs only warn.

    Raises:
        InvalidSettings: one of them is missing or wrong.
    """
    settings = load_settings(os.environ, needs=needs)
    # A command's own output is what people came for; with LOG_LEVEL=debug they get the rest.
    level = settings.logs.level if settings.logs.level in ("debug", "error") else "warning"
    configure_logs(LogOptions(level=level, format=settings.logs.format))
    return settings


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def with_database(work: Callable[[Database], Awaitable[T]]) -> T:
    """The outcome of `work` with an open database, which is closed again.

    Raises:
        InvalidSettings, StoreUnavailable: `DATABASE_URL` is missing or wrong, or nobody answers.
    """
    options = settings_for("database").database

    async def session() -> T:
        database = Database(replace(options, application_name="orchestrator-cli", pool_size=2))
        await database.open()
        try:
            return await work(database)
        finally:
            await database.close()

    return run(session())
