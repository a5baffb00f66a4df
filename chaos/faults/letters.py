"""The topic of dead letters refuses some of them, and is mended: nobody waits for it."""

import asyncio
import itertools
import time
from collections.abc import Mapping

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from chaos.arena import Arena
from chaos.fault import Bar, Fault, Times
from chaos.faults.malformed import SPREAD_SECONDS, add
from orchestrator.store import outbox
from orchestrator.store.database import Database, DatabaseOptions

UPDATE_AGE = "oldest update in the outbox, s"
ARRIVED = "all dead letters there after mending, s"
COUNT, COUNT_SHORT = 600, 150
PATIENCE_SECONDS = 60.0

# Compacted topics take no message without a key; the cleaner itself must remove nothing here.
REFUSALS = itertools.cycle(
    (
        {"cleanup.policy": "compact", "min.compaction.lag.ms": "86400000"},
        {"max.message.bytes": "900"},
    )
)

AGE = """
SELECT coalesce((
    SELECT extract(epoch FROM clock_timestamp() - s.at)::float8
    FROM (SELECT * FROM outbox WHERE topic IS NULL ORDER BY id LIMIT 1) o
    JOIN steps s ON s.task = o.task AND s.seq = o.seq
), 0) AS age
"""
LEFT = """
SELECT (SELECT count(*) FROM outbox WHERE topic IS NOT NULL)
       + (SELECT count(*) FROM outbox_refused) AS letters,
       (SELECT count(*) FROM outbox_refused) AS refused
"""


async def refuse(arena: Arena) -> None:
    """Malformed messages while their topic refuses letters; then it takes them again."""
    await _configure(arena, next(REFUSALS))
    await add(arena, COUNT_SHORT if arena.size.is_short else COUNT)
    until = time.monotonic() + SPREAD_SECONDS
    oldest, refused = 0.0, 0
    async with asyncio.timeout(PATIENCE_SECONDS):
        while time.monotonic() < until or not refused:
            oldest = max(oldest, (await arena.rows_soon(AGE))[0]["age"])
            refused = (await arena.rows_soon(LEFT))[0]["refused"]
            await asyncio.sleep(0.05)
    arena.measured[UPDATE_AGE].append(oldest)
    await _configure(arena, {})
    await _send_again(arena)


async def _send_again(arena: Arena) -> None:
    """As `orchestrator outbox retry` does, until nothing is left."""
    since = time.monotonic()
    database = Database(DatabaseOptions(url=arena.database_url, pool_size=1))
    await database.open()
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await arena.rows_soon(LEFT))[0]["letters"]:
                await outbox.send_again(database)
                await asyncio.sleep(0.5)
    finally:
        await database.close()
    arena.measured[ARRIVED].append(time.monotonic() - since)


async def _configure(arena: Arena, settings: Mapping[str, str]) -> None:
    """Each setting that is not named is the broker's default again."""
    client = AIOKafkaAdminClient(bootstrap_servers=arena.kafka.bootstrap_servers)
    await client.start()
    try:
        topic = arena.topics.dead_letters
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, dict(settings))
        await client.alter_configs([resource])
    finally:
        await client.close()


FAULT = Fault(
    name="dead-letters-refused",
    injected=(
        f"the topic of dead letters compacted, or with a max.message.bytes of 900, while {COUNT} "
        "malformed messages come; then mended, and what was refused sent again"
    ),
    inject=refuse,
    times=Times(alone=10, mixed=0, short=2),
    bars=(Bar(measure=UPDATE_AGE, at_most=1.0), Bar(measure=ARRIVED, at_most=20.0)),
    touches="kafka",
)
