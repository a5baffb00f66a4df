"""Looking for messages that can't wait: when told, now and then, and not while nothing runs."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

from orchestrator.domain.errors import StoreUnavailable
from orchestrator.domain.ids import TaskKey
from orchestrator.engine.attention import Attention
from tests.fakes.bus import until

OFTEN, NEVER = timedelta(milliseconds=10), timedelta(hours=1)


class Inboxes:
    def __init__(self, *answers: list[TaskKey] | Exception) -> None:
        self.answers = list(answers)
        self.looks = 0
        self.rung: list[TaskKey] = []

    async def look(self) -> Sequence[TaskKey]:
        self.looks += 1
        answer = self.answers.pop(0) if self.answers else []
        if isinstance(answer, Exception):
            raise answer
        return answer

    def ring(self, keys: Iterable[TaskKey]) -> None:
        self.rung += keys


@asynccontextmanager
async def attending(
    inboxes: Inboxes, *, every: timedelta, idle: bool = False
) -> AsyncIterator[Attention]:
    attention = Attention(look=inboxes.look, ring=inboxes.ring, is_idle=lambda: idle, every=every)
    loop = asyncio.create_task(attention.run())
    yield attention
    loop.cancel()
    await asyncio.wait([loop])


async def test_it_looks_when_told_and_once_more_after_something_new() -> None:
    inboxes = Inboxes([TaskKey(7)], [TaskKey(7), TaskKey(8)], [TaskKey(8)], [])
    async with attending(inboxes, every=NEVER) as attention:
        attention.wake()
        await until(lambda: inboxes.looks == 5, seconds=5)
    assert inboxes.rung == [7, 7, 8, 8]


async def test_a_message_that_is_read_later_is_not_looked_for_all_the_time() -> None:
    inboxes = Inboxes(*[[TaskKey(7)]] * 50)
    async with attending(inboxes, every=timedelta(seconds=0.5)) as attention:
        attention.wake()
        await until(lambda: inboxes.looks >= 4, seconds=5)
        assert inboxes.looks == 4


async def test_it_looks_now_and_then_for_a_notice_may_be_lost() -> None:
    inboxes = Inboxes(StoreUnavailable("away"), [TaskKey(7)])
    async with attending(inboxes, every=OFTEN):
        await until(lambda: inboxes.rung == [7], seconds=5)


async def test_it_asks_nothing_while_nothing_runs() -> None:
    inboxes = Inboxes()
    async with attending(inboxes, every=OFTEN, idle=True) as attention:
        attention.wake()
        for _ in range(50):
            await asyncio.sleep(0)
    assert inboxes.looks == 0
