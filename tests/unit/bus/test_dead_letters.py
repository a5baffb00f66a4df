"""A dead letter says why, and keeps what came."""

import hashlib
import re
import uuid
from pathlib import Path

import pytest

from orchestrator.bus.dead_letters import (
    HEADERS_LEFT_OUT,
    LENGTH,
    REASONS,
    SHA256,
    Failure,
    Station,
    dead_letter,
    uuid7,
)
from orchestrator.bus.headers import first
from orchestrator.store.ingest import DeadLetter, Origin

STATION = Station(topic="dead-letters", group_id="g", max_value_bytes=1000)


def letter(origin: Origin, *, reason: str = "schema", error: str = "why") -> DeadLetter:
    failure = Failure(reason=reason, error=error, task_id="t", timestamp_ms=1_700_000_000_000)
    return dead_letter(origin, failure, station=STATION)


def origin(value: bytes | None = b"\xff{", headers: tuple[tuple[str, str], ...] = ()) -> Origin:
    return Origin(topic="tasks", partition=1, offset=2, key=b"k", value=value, headers=headers)


def test_the_original_bytes_are_kept() -> None:
    found = letter(origin())
    assert (found.key, found.value) == (b"k", b"\xff{")


def test_the_headers_tell_reason_and_place() -> None:
    headers = dict(letter(origin()).headers)
    assert headers["dlq.reason"] == "schema"
    assert headers["dlq.error"] == "why"
    assert headers["dlq.original.topic"] == "tasks"
    assert headers["dlq.original.partition"] == "1"
    assert headers["dlq.original.offset"] == "2"
    assert headers["dlq.original.timestamp"] == "1700000000000"
    assert headers["dlq.task_id"] == "t"
    assert headers["dlq.consumer_group"] == "g"
    assert headers["dlq.replays"] == "0"


def test_original_headers_come_along_under_their_names() -> None:
    trace = f"00-{'1' * 32}-{'2' * 16}-01"
    found = letter(origin(headers=(("a", "1"), ("a", "2"), ("traceparent", trace))))
    assert ("dlq.original.header.a", "1") in found.headers
    assert ("dlq.original.header.a", "2") in found.headers
    assert first(found.headers, "traceparent") == trace


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dlq.replays", "many"),
        ("dlq.replays", "9" * 40),
        ("dlq.first_seen", "x" * 100),
        ("dlq.replay_of", "x" * 201),
        ("DLQ.Replay_Of", "x" * 201),
        ("traceparent", "0" * 300),
    ],
)
def test_a_header_of_ours_is_carried_on_only_where_we_can_have_written_it(
    name: str, value: str
) -> None:
    own = [n for n, v in letter(origin(headers=((name, value),))).headers if v == value]
    assert own in ([], ["dlq.original.header.traceparent"])


def test_a_replay_is_counted_and_keeps_when_it_was_first_seen() -> None:
    replayed = origin(headers=(("dlq.replays", "2"), ("dlq.first_seen", "2020-01-01")))
    headers = letter(replayed).headers
    assert first(headers, "dlq.replays") == "2"
    assert first(headers, "dlq.first_seen") == "2020-01-01"
    assert not any(name.startswith("dlq.original.header.") for name, _ in headers)


def test_an_oversize_value_is_cut_and_described() -> None:
    value = b"x" * 1500
    found = letter(origin(value))
    assert found.value == value[:1000]
    assert first(found.headers, LENGTH) == "1500"
    assert first(found.headers, SHA256) == hashlib.sha256(value).hexdigest()


def test_headers_beyond_reason_are_left_out_and_counted() -> None:
    found = letter(origin(headers=tuple((f"h{n}", "x" * 1000) for n in range(20))))
    assert first(found.headers, HEADERS_LEFT_OUT) == "20"


def test_an_error_is_bounded_and_fit_for_the_database() -> None:
    error = first(letter(origin(), error="a\x00" + "b" * 5000).headers, "dlq.error")
    assert error is not None
    assert error.startswith("a\ufffdb")
    assert len(error) == 1000


def test_ids_are_version_7_and_sort_by_time() -> None:
    earlier, later = uuid7(now_ms=1), uuid7(now_ms=2)
    assert (earlier.version, earlier.variant) == (7, uuid.RFC_4122)
    assert earlier < later
    assert uuid7(now_ms=1) != earlier


def test_the_reasons_are_those_of_the_guide() -> None:
    guide = Path(__file__).parents[3] / "docs" / "guides" / "publish.md"
    _, _, table = guide.read_text().partition("| `dlq.reason` | why |")
    rows = [line for line in table.partition("```")[0].splitlines() if line.startswith("| `")]
    told = [reason for row in rows for reason in re.findall("`([a-z_0-9]+)`", row.split("|")[1])]
    assert sorted(told) == sorted(REASONS)
