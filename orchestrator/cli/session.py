"""What commands have in common: settings, a database for as long as one command takes, the loop."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any, TypeVar

from orchestrator.settings import Need, Settings, load_settings
from orchestrator.store.database import Database
from orchestrator.telemetry.logs import LogOptions, configure_logs

T = TypeVar("T")


def settings_for(*needs: Need) -> Settings:
    """The settings that a command needs, from the environment and `.env`.

    Raises:
        InvalidSettings: one of them is missing or wrong.
    """
    settings = load_settings(os.environ, needs=needs)
    if settings.logs.level == "debug":
        configure_logs(settings.logs)
    else:
        # The error that ends a command says it better, and once.
        configure_logs(LogOptions(level="error", format=settings.logs.format))
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
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
