"""Gaps are seen, and damaged batches measured."""

import struct

import pytest

from orchestrator.bus.damaged import HEADER, batch_at
from orchestrator.bus.dead_letters import Station
from orchestrator.bus.gaps import find_gap, gap_letter

STATION = Station(topic="d", group_id="g", max_value_bytes=100)


@pytest.mark.parametrize("position", [10, 15, 20])
def test_a_position_within_the_log_is_no_gap(position: int) -> None:
    assert find_gap("t", 0, position=position, begin=10, end=20) is None


def test_a_log_that_begins_behind_the_position_is_a_gap() -> None:
    gap = find_gap("t", 0, position=5, begin=10, end=20)
    assert gap is not None
    assert "messages 5 to 9 of t/0 are gone" in gap.text
    assert gap.continue_at == 10


def test_a_log_that_ends_before_the_position_is_a_gap() -> None:
    gap = find_gap("t", 0, position=25, begin=0, end=20)
    assert gap is not None
    assert "made anew" in gap.text
    assert gap.continue_at == 0


def test_a_gaps_letter_says_where_reading_may_go_on() -> None:
    gap = find_gap("t", 3, position=5, begin=10, end=20)
    assert gap is not None
    headers = dict(gap_letter(gap, station=STATION).headers)
    assert headers["dlq.reason"] == "gap"
    assert headers["dlq.original.offset"] == "5"
    assert headers["dlq.gap.next_offset"] == "10"


def batch(base: int, count: int, *, body: bytes = b"x" * 50) -> bytes:
    length = HEADER.size - 12 + len(body)
    return HEADER.pack(base, length, 0, 2, 0, 0, count - 1) + body


def test_the_batch_that_holds_an_offset_is_found() -> None:
    fetched = batch(0, 10) + batch(10, 5) + batch(15, 5)
    found = batch_at(12, fetched)
    assert found.next_offset == 15
    assert found.raw == batch(10, 5)


@pytest.mark.parametrize("fetched", [b"", b"short", struct.pack(">qiibIhi", 0, -1, 0, 2, 0, 0, 0)])
def test_where_nothing_can_be_told_one_message_is_skipped(fetched: bytes) -> None:
    assert batch_at(7, fetched).next_offset == 8
