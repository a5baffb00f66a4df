"""How far a batch of records reaches that can't be decoded, read from its raw header.

aiokafka raises for ever at such a batch, and does not say where it ends.
"""

import struct
import zlib
from dataclasses import dataclass

import cramjam
from aiokafka import TopicPartition
from aiokafka import errors as kafka
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.fetch import FetchRequest

from orchestrator.bus.connection import client_arguments, kafka_errors
from orchestrator.bus.options import BusOptions

UNREADABLE = (
    kafka.CorruptRecordException,
    kafka.UnsupportedCodecError,
    cramjam.DecompressionError,
    UnicodeDecodeError,
    EOFError,
    zlib.error,
    struct.error,
)
"""What decoding a fetched batch raises, by kind of damage and codec."""

# Of a record batch, version 2: base offset, length, leader epoch, magic, CRC, attributes, last
# offset's distance from the base.
HEADER = struct.Struct(">qiibIhi")
LENGTH_COUNTS_FROM = 12
MAGIC = 2
READ_UNCOMMITTED = 0
MAX_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedBatch:
    next_offset: int
    raw: bytes


async def damaged_batch(
    options: BusOptions, partition: TopicPartition, offset: int
) -> DamagedBatch:
    """The batch that holds `offset`.

    Raises:
        KafkaUnavailable: it can't be fetched now.
    """
    client = AIOKafkaClient(**client_arguments(options))
    try:
        with kafka_errors(f"fetch {partition.topic}/{partition.partition} at {offset}"):
            await client.bootstrap()
            await client.set_topics([partition.topic])
            leader = client.cluster.leader_for_partition(partition)
            if leader is None or leader < 0:
                raise kafka.LeaderNotAvailableError(partition)
            part = (partition.partition, offset, MAX_BYTES)
            request = FetchRequest(
                1000, 1, MAX_BYTES, READ_UNCOMMITTED, [(partition.topic, [part])]
            )
            response = await client.send(leader, request)
    finally:
        await client.close()
    return batch_at(offset, bytes(response.topics[0][1][0][-1] or b""))


def batch_at(offset: int, fetched: bytes) -> DamagedBatch:
    """The batch among the fetched ones that holds `offset`; one message where none can be told."""
    at = 0
    while len(fetched) - at >= HEADER.size:
        base, length, _, magic, _, _, last_delta = HEADER.unpack_from(fetched, at)
        end = at + LENGTH_COUNTS_FROM + length
        if magic != MAGIC or length <= 0:
            break
        if base + last_delta >= offset:
            return DamagedBatch(next_offset=base + last_delta + 1, raw=fetched[at:end])
        at = end
    return DamagedBatch(next_offset=offset + 1, raw=fetched[at:])
