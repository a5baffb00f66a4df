"""Asks a Kafka whether it serves: one Metadata request on a bare connection, no client library."""

import asyncio
import struct

_METADATA, _VERSION, _CORRELATION = 3, 5, 1
_NO_TOPICS, _CREATE_NONE = 0, 0
_REQUEST = struct.pack(">hhihib", _METADATA, _VERSION, _CORRELATION, -1, _NO_TOPICS, _CREATE_NONE)


async def serves(host: str, port: int, *, within_seconds: float = 1.0) -> bool:
    """Whether a plain listener names at least one broker that may be led to.

    An open port says less: a node that was killed answers before its old registration expired, and
    takes no writes till then.
    """
    try:
        async with asyncio.timeout(within_seconds):
            return await _ask(host, port)
    except (OSError, EOFError):  # TimeoutError is an OSError, an incomplete answer an EOFError
        return False


async def _ask(host: str, port: int) -> bool:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(struct.pack(">i", len(_REQUEST)) + _REQUEST)
        (length,) = struct.unpack(">i", await reader.readexactly(4))
        answer = await reader.readexactly(length)
    finally:
        writer.close()
    correlation, _throttled, brokers = struct.unpack_from(">iii", answer)
    return bool(correlation == _CORRELATION and brokers > 0)
