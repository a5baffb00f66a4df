"""Gaps are seen, and damaged batches measured."""

import struct

import pytest

from orchestrator.bus.damaged import HEADER, batch_at
from orchestrator.bus.dead_letters import Station
from orchestrator.bus.gaps import Gap, find_gap, gap_letter
from orchestrator.store.positions import Position

STATION = Station(topic="d", group_id="g", max_value_bytes=100)


PLACE = ("t", 3)
LOG = (10, 20)


def gap_at(
    offset: int, *, log: tuple[int, int] = LOG, was: str | None = "A", now: str = "A"
) -> Gap:
    gap = find_gap(PLACE, Position(offset, was), log=log, topic_id=now)
    assert gap is not None
    return gap


@pytest.mark.parametrize("offset", [10, 15, 20])
@pytest.mark.parametrize(("was", "now"), [("A", "A"), (None, "A"), ("A", None), (None, None)])
def test_a_position_within_the_log_is_no_gap(offset: int, was: str | None, now: str | None) -> None:
    assert find_gap(PLACE, Position(offset, was), log=LOG, topic_id=now) is None


def test_a_log_that_begins_behind_the_position_is_a_gap() -> None:
    gap = gap_at(5)
    assert "messages 5 to 9 of t/3 are gone" in gap.text
    assert gap.continue_at == 10


def test_a_log_that_ends_before_the_position_is_a_gap() -> None:
    gap = gap_at(25, log=(0, 20))
    assert "Kafka lost messages" in gap.text
    assert gap.continue_at == 0


def test_a_topic_that_was_made_anew_is_a_gap_however_long_it_is() -> None:
    gap = gap_at(15, log=(0, 1000), was="A", now="B")
    assert "made anew (its id was A, now it is B)" in gap.text
    assert gap.continue_at == 0


def test_a_topic_that_was_made_anew_before_anything_was_read_of_it_is_none() -> None:
    assert find_gap(PLACE, Position(0, "A"), log=(0, 1000), topic_id="B") is None


def test_a_gaps_letter_says_where_reading_may_go_on() -> None:
    headers = dict(gap_letter(gap_at(5), station=STATION).headers)
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
