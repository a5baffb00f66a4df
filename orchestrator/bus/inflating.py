"""Compressed batches are decompressed up to a limit, and never beyond it.

aiokafka decompresses a whole batch before anybody can look at the size of a message: 2 kB may
become 64 MB. Its codecs are replaced here by ones that stop.
"""

import zlib
from collections.abc import Callable

import cramjam
from aiokafka import errors as kafka
from aiokafka.record import default_records, legacy_records
from aiokafka.record._crecords import default_records as fast_default_records
from aiokafka.record._crecords import legacy_records as fast_legacy_records

USERS = (default_records, legacy_records, fast_default_records, fast_legacy_records)
"""The modules that look the codecs up by name when they meet a compressed batch."""
POLLS = 4
"""A poll may decompress so many times as much as one batch."""
FIRST_ROOM, GROWTH = 64 * 1024, 8
GZIP = 16 + zlib.MAX_WBITS
XERIAL, XERIAL_HEAD = b"\x82SNAPPY\x00", 16


Payload = bytes | memoryview


class BatchTooLarge(kafka.CorruptRecordException):  # type: ignore[misc]  # aiokafka has no types
    """A batch that is larger than the limit when it is decompressed."""


class PollTooLarge(kafka.CorruptRecordException):  # type: ignore[misc]  # aiokafka has no types
    """Batches that are too large together, although each may be read alone."""


class _Limit:
    """Of this process. Written by whoever polls, read by the codecs, both on the event loop."""

    batch = 2**31
    left = 2**31


def limit_batches(max_bytes: int) -> None:
    """From now on no batch that is larger than this is decompressed in this process."""
    _Limit.batch = max_bytes
    for module in USERS:
        for name, codec in CODECS.items():
            if hasattr(module, name):
                setattr(module, name, codec)


def begin_poll() -> None:
    """What is decompressed from now on counts together."""
    _Limit.left = POLLS * _Limit.batch


def _bounded(decode: Callable[[Payload, int], bytes]) -> Callable[[Payload], bytes]:
    def codec(payload: Payload) -> bytes:
        room = min(_Limit.batch, _Limit.left)
        try:
            inflated = decode(payload, room)
        except BatchTooLarge as error:
            if room < _Limit.batch:
                raise PollTooLarge(
                    "the batches are too large to be decompressed at once"
                ) from error
            raise
        _Limit.left -= len(inflated)
        return inflated

    return codec


def _too_large(room: int) -> BatchTooLarge:
    return BatchTooLarge(f"the batch is larger than {room} bytes when it is decompressed")


def _gzip(payload: Payload, room: int) -> bytes:
    rest, found = bytes(payload), bytearray()
    while rest:
        member = zlib.decompressobj(GZIP)
        found += member.decompress(rest, room + 1 - len(found))
        if len(found) > room:
            raise _too_large(room)
        if not member.eof:
            raise EOFError("the compressed batch ends too early")
        rest = member.unused_data.lstrip(b"\x00")
    return bytes(found)


def _framed(
    decompress_into: Callable[[Payload, bytearray], int],
) -> Callable[[Payload, int], bytes]:
    def decode(payload: Payload, room: int) -> bytes:
        size = max(FIRST_ROOM, GROWTH * len(memoryview(payload)))
        while True:
            buffer = bytearray(min(size, room))
            try:
                return bytes(memoryview(buffer)[: decompress_into(payload, buffer)])
            except cramjam.DecompressionError as error:
                if "whole buffer" not in str(error):
                    raise
            if size >= room:
                raise _too_large(room)
            size *= GROWTH

    return decode


def _snappy(payload: Payload, room: int) -> bytes:
    view = memoryview(payload)
    if bytes(view[: len(XERIAL)]) != XERIAL:
        return _snappy_block(view, room, of=room)
    found, at = bytearray(), XERIAL_HEAD
    while at < len(view):
        begin = at + 4
        at = begin + int.from_bytes(view[at:begin])
        found += _snappy_block(view[begin:at], room - len(found), of=room)
    return bytes(found)


def _snappy_block(block: memoryview, room: int, *, of: int) -> bytes:
    if cramjam.snappy.decompress_raw_len(block) > room:
        raise _too_large(of)
    return bytes(cramjam.snappy.decompress_raw(block))


CODECS = {
    "gzip_decode": _bounded(_gzip),
    "snappy_decode": _bounded(_snappy),
    "lz4_decode": _bounded(_framed(cramjam.lz4.decompress_into)),
    "zstd_decode": _bounded(_framed(cramjam.zstd.decompress_into)),
}
