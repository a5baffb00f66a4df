"""What all simulated processes share: the clock, the database, the weather, and what was seen."""

import asyncio
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from typing import TypeVar

from orchestrator.domain.errors import StoreUnavailable
from tests.model.intake import ModelIntake
from tests.model.store import ModelStore
from tests.model.tables import Tables
from tests.simulation.clock import Machine, Process
from tests.simulation.weather import Climate, Fate, Weather

T = TypeVar("T")

BEGAN = datetime(2030, 1, 1, tzinfo=UTC)


class World:
    """Made from a seed; two of the same seed do the same."""

    def __init__(self, seed: int, climate: Climate, *, store: type[ModelStore] = ModelStore):
        self.seed = seed
        self.random = Random(seed)
        self.machine = Machine()
        self.process = self.machine.process("world")
        """Whatever is outside of the workers: it is never frozen or killed."""
        self.weather = Weather(Random(seed + 1), climate)
        self.tables = Tables()
        self.store = store(self.tables, now=self.now)
        self.intake = ModelIntake(self.tables, now=self.now)
        self.violations: list[str] = []
        self.notes = 0
        self.trace = 0
        """A digest of everything that happened, in its order."""
        self.story: list[str] | None = None
        """Set to a list, it keeps what is digested."""

    def now(self) -> datetime:
        return BEGAN + timedelta(seconds=self.machine.time)

    def note(self, what: str) -> None:
        line = f"{self.machine.time:.6f} {what}"
        self.notes += 1
        self.trace = zlib.crc32(line.encode(), self.trace)
        if self.story is not None:
            self.story.append(line)

    def violated(self, what: str) -> None:
        self.note(f"VIOLATED {what}")
        self.violations.append(f"at {self.machine.time:.3f}: {what}")

    async def ask(self, process: Process, what: str, action: Callable[[], T]) -> T:
        """A statement on its way there and back; it goes on when who sent it is frozen or dead.

        Raises:
            StoreUnavailable: whether it took effect is unknown.
        """
        answer: asyncio.Future[T] = process.create_future()
        if process.is_cut:
            return await answer  # nothing leaves a dead process
        fate, there, back = self.weather.statement()

        def take_effect() -> None:
            if fate is Fate.REFUSED:
                self.process.call_later(back, fail)
                return
            result = action()
            self.note(f"{process.name} {what}")
            self.process.call_later(back, partial(reply, result))

        def reply(result: T) -> None:
            if fate is not Fate.DONE:
                fail()
            elif not answer.done():
                answer.set_result(result)

        def fail() -> None:
            if not answer.done():
                answer.set_exception(StoreUnavailable(f"simulated: {fate.name.lower()}"))

        self.process.call_later(there, take_effect)
        return await answer
