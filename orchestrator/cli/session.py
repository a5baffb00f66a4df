"""What commands have in common: settings, a database while one command runs, the loop, the user."""

import asyncio
import getpass
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.bus.decoding import decode
from orchestrator.domain.errors import InvalidSettings
from orchestrator.domain.json import JsonObject, clean_text
from orchestrator.settings import Need, Settings, load_settings
from orchestrator.store.database import Database
from orchestrator.telemetry.logs import LogOptions, configure_logs

T = TypeVar("T")

DATA_DIR = Path(".orchestrator")
"""Where `orchestrator dev` keeps everything, in the folder in which it is started."""
DEV_ADDRESSES = DATA_DIR / "dev.env"
"""There while it runs: with it, every other command in that folder finds it by itself."""


def settings_for(*needs: Need) -> Settings:
    """The settings that a command needs, from the environment and `.env`.

    Raises:
        InvalidSettings: one of them is missing or wrong.
    """
    try:
        settings = load_settings({**dev_addresses(), **os.environ}, needs=needs)
    except InvalidSettings as error:
        raise InvalidSettings(f"{error}{_hint(str(error))}") from error
    if settings.logs.level == "debug":
        configure_logs(settings.logs)
    else:
        # The error that ends a command says it better, and once.
        configure_logs(LogOptions(level="error", format=settings.logs.format))
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    return settings


def dev_addresses() -> dict[str, str]:
    """The addresses of the `orchestrator dev` that runs in this folder; empty where none does."""
    if not DEV_ADDRESSES.is_file():
        return {}
    lines = DEV_ADDRESSES.read_text(encoding="utf-8").splitlines()
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def _hint(problems: str) -> str:
    """What a newcomer most likely forgot, where an address is missing and no dev stack runs."""
    if "is missing" not in problems or DEV_ADDRESSES.is_file():
        return ""
    return "\nor start `orchestrator dev` in this folder: commands find it by themselves"


def user() -> str:
    """Who calls the command, for the journal."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""  # a container's user may have no name


def cleaned(text: str | None) -> str | None:
    """What a person wrote for a journal, bytes that are no text replaced: a callback of options."""
    return None if text is None else clean_text(text)


def json_argument(text: str) -> JsonObject:
    """The JSON object in an argument, by the rules for messages.

    What they refuse would be changed silently on its way into the journal, or refused there.

    Raises:
        InvalidMessage: it holds none, or one that a message may not hold.
    """
    # Bytes of an argument that are no UTF-8; how long it may be is the system's to say.
    value = text.encode(errors="surrogateescape")
    return decode(value, max_bytes=len(value))


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
