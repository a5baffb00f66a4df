"""Compressed batches: read as aiokafka reads them up to the limit, and refused beyond it."""

import random
import tracemalloc
from collections.abc import Callable

import pytest
from aiokafka import codec

from orchestrator.bus import inflating
from orchestrator.bus.damaged import UNREADABLE
from orchestrator.bus.inflating import CODECS, BatchTooLarge, PollTooLarge

LIMIT = 64 * 1024


def raw_snappy(payload: bytes) -> bytes:
    return bytes(codec.snappy_encode(payload, xerial_compatible=False))


ENCODERS = [
    pytest.param("gzip_decode", codec.gzip_encode, id="gzip"),
    pytest.param("snappy_decode", codec.snappy_encode, id="snappy"),
    pytest.param("snappy_decode", raw_snappy, id="snappy without a frame"),
    pytest.param("lz4_decode", codec.lz4_encode, id="lz4"),
    pytest.param("zstd_decode", codec.zstd_encode, id="zstd"),
]
Encode = Callable[[bytes], bytes]


@pytest.fixture(autouse=True)
def _limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inflating._Limit, "batch", LIMIT)
    monkeypatch.setattr(inflating._Limit, "left", inflating.POLLS * LIMIT)


@pytest.mark.parametrize(("name", "encode"), ENCODERS)
@pytest.mark.parametrize("size", [0, 1, 5000, LIMIT - 1, LIMIT])
def test_what_is_within_the_limit_is_decompressed(name: str, encode: Encode, size: int) -> None:
    payload = random.Random(size).randbytes(size // 2) + b"x" * (size - size // 2)
    assert CODECS[name](memoryview(encode(payload))) == payload


@pytest.mark.parametrize(("name", "encode"), ENCODERS)
@pytest.mark.parametrize("size", [LIMIT + 1, 4 * 1024 * 1024])
def test_what_is_beyond_it_is_refused_before_it_is_decompressed(
    name: str, encode: Encode, size: int
) -> None:
    packed = encode(b"x" * size)
    tracemalloc.start()
    try:
        with pytest.raises(BatchTooLarge, match=f"larger than {LIMIT} bytes"):
            CODECS[name](packed)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * LIMIT + 2 * len(packed)


def test_a_batch_of_several_gzip_members_counts_as_a_whole() -> None:
    members = codec.gzip_encode(b"x" * LIMIT) + codec.gzip_encode(b"y")
    with pytest.raises(BatchTooLarge):
        CODECS["gzip_decode"](members)


def test_batches_of_one_poll_count_together() -> None:
    packed = codec.zstd_encode(b"x" * LIMIT)
    for _ in range(inflating.POLLS):
        CODECS["zstd_decode"](packed)
    with pytest.raises(PollTooLarge):
        CODECS["zstd_decode"](packed)
    inflating.begin_poll()
    assert len(CODECS["zstd_decode"](packed)) == LIMIT


@pytest.mark.parametrize(("name", "encode"), ENCODERS)
def test_what_is_damaged_raises_what_intake_knows(name: str, encode: Encode) -> None:
    packed = encode(random.Random(1).randbytes(5000))
    with pytest.raises(UNREADABLE):
        CODECS[name](packed[: len(packed) // 2])
