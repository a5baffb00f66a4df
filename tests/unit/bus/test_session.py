"""What is written of what was polled."""

import asyncio

from aiokafka import ConsumerRecord, TopicPartition

from orchestrator.bus.group import Group
from orchestrator.bus.options import BusOptions
from orchestrator.bus.session import Session
from orchestrator.store.database import Database, DatabaseOptions
from orchestrator.store.service import Identity
from tests.fakes.bus import CountingEngine

PLACE = TopicPartition("tasks", 0)


class SentBack:
    """A client that stands before what it handed out."""

    async def position(self, _: TopicPartition) -> int:
        return 3


def record(offset: int) -> ConsumerRecord:
    return ConsumerRecord(
        topic=PLACE.topic,
        partition=PLACE.partition,
        offset=offset,
        timestamp=0,
        timestamp_type=0,
        key=None,
        value=b"{}",
        checksum=None,
        serialized_key_size=-1,
        serialized_value_size=2,
        headers=(),
    )


async def test_messages_before_the_position_are_not_written_again() -> None:
    session = Session(
        SentBack(),
        database=Database(DatabaseOptions(url="postgresql://127.0.0.1/nowhere")),
        options=BusOptions(),
        engine=CountingEngine().as_engine(),
        group=Group(BusOptions(), Identity(service="s", place="p"), cluster_id="c"),
        stopping=asyncio.Event(),
    )
    session.assignment.positions[PLACE] = 5
    (part,) = await session._reading.parts({PLACE: [record(offset) for offset in (3, 4, 5, 6)]})
    assert (part.expected, part.next_offset, len(part.items)) == (5, 7, 2)
