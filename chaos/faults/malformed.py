"""Thousands of messages that no contract allows, in between: each becomes one dead letter."""

import asyncio
import itertools
import time

from chaos.arena import Arena
from chaos.fault import Bar, Fault, Times
from chaos.faults.kafka import READS_ON, reads_on
from chaos.garbage import Case, generate
from chaos.kinds import BAD, Message

COUNT, COUNT_SHORT = 1000, 200
SPREAD_SECONDS = 2.0

_numbers = itertools.count(1)


async def publish(arena: Arena) -> None:
    """A batch; good messages go on between."""
    await add(arena, COUNT_SHORT if arena.size.is_short else COUNT)
    await asyncio.sleep(SPREAD_SECONDS)
    await reads_on(arena, time.time())


async def add(arena: Arena, count: int) -> None:
    """So many, published within `SPREAD_SECONDS`."""
    cases = await asyncio.to_thread(generate, count, dice=arena.dice)
    arena.load.add(_message(case, arena) for case in cases)


def _message(case: Case, arena: Arena) -> Message:
    return Message(
        topic="tasks" if case.topic == "tasks" else "events",
        kind=BAD,
        task_id=f"{BAD}-generated-{next(_numbers)}",
        value=case.value,
        headers=case.headers,
        has_key=case.has_key or case.value is None,  # aiokafka's producer wants one of the two
        after_seconds=arena.dice.uniform(0, SPREAD_SECONDS),
    )


FAULT = Fault(
    name="malformed",
    injected=(
        f"{COUNT} malformed messages a time, drawn by Hypothesis and changed at random: bytes, "
        "broken JSON, depths up to 100,000, numbers beyond all limits, NUL, surrogates, bad UTF-8, "
        "no value, no key"
    ),
    inject=publish,
    times=Times(alone=50, mixed=0, short=1),
    pause_seconds=(0.0, 0.1),
    bars=(Bar(measure=READS_ON, at_most=10.0),),
)
