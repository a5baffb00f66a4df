"""Wake-ups between processes over `NOTIFY`: only ever a hint, everyone also looks by himself.

They are sent outside the writing statements and at most a hundred times a second: a `NOTIFY` inside
a transaction takes a lock that all commits of the database queue behind.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum

from orchestrator.domain.errors import StoreError, StoreUnavailable
from orchestrator.store.database import Database

CHANNEL = "orchestrator"
INTERVAL_SECONDS = 0.01
SEND_SECONDS = 1.0
"""After which a poll is as quick."""
LISTEN_SECONDS = 30.0
"""Between two looks whether the connection that listens is still one."""

NOTIFY = "SELECT pg_notify($1, unnest($2::text[]))"


class Notice(StrEnum):
    """What there may be to do."""

    RUNNABLE = "runnable"
    OUTBOX = "outbox"
    AGENTS = "agents"
    CONTROL = "control"
    """Messages that can't wait, for tasks that run."""


class Notices:
    """Sends what was flagged, and hears what others sent."""

    def __init__(self, database: Database, *, heard: Callable[[Notice], None]) -> None:
        self._database = database
        self._heard = heard
        self._flagged: set[Notice] = set()
        self._wake = asyncio.Event()

    def flag(self, notice: Notice) -> None:
        """Tells the other processes soon; many flags are one notice."""
        self._flagged.add(notice)
        self._wake.set()

    async def send(self) -> None:
        """Runs until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.flush()
            await asyncio.sleep(INTERVAL_SECONDS)

    async def flush(self) -> None:
        """Sends what is flagged at this moment."""
        flagged, self._flagged = self._flagged, set()
        if flagged:
            # A hint that is lost is no harm: the others' next poll finds what there is. So who
            # ends while PostgreSQL does not answer need not wait for it either.
            with suppress(StoreError, TimeoutError):
                async with asyncio.timeout(SEND_SECONDS):
                    await self._database.fetch(NOTIFY, CHANNEL, [n.value for n in flagged])

    async def hear(self) -> None:
        """Listens until cancelled; reconnects for as long as it takes."""
        while True:
            try:
                await self._listen()
            except StoreUnavailable:
                await asyncio.sleep(1)

    async def _listen(self) -> None:
        async with self._database.listener() as connection:
            ended = asyncio.Event()
            connection.add_termination_listener(lambda _: ended.set())
            await connection.add_listener(CHANNEL, self._on_notice)
            for notice in Notice:
                self._heard(notice)  # whatever was missed while nobody listened
            while not await _comes(ended, within_seconds=LISTEN_SECONDS):
                # A connection that was cut off in silence hears nothing for ever.
                await connection.execute("SELECT 1")

    def _on_notice(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        if payload in set(Notice):
            self._heard(Notice(str(payload)))


async def _comes(event: asyncio.Event, *, within_seconds: float) -> bool:
    try:
        async with asyncio.timeout(within_seconds):
            return await event.wait()
    except TimeoutError:
        return False


async def notify(database: Database, *notices: Notice) -> None:
    """Tells all processes now; for commands that change something once."""
    await database.fetch(NOTIFY, CHANNEL, [n.value for n in notices])
