from datetime import UTC, datetime

import pytest

from orchestrator.cli.doctor import clock_finding, duplicates_finding
from orchestrator.store.duplicates import OtherContents


@pytest.mark.parametrize(("skew", "state"), [(0.2, "ok"), (-4.9, "ok"), (5.1, "warning")])
def test_a_clock_that_is_far_off_is_told(skew: float, state: str) -> None:
    assert clock_finding(skew).state == state


def test_the_direction_of_the_skew_is_said() -> None:
    assert "61.0 s behind" in clock_finding(-61.0).says


def test_messages_with_a_known_id_and_other_content_are_told_with_the_last_one() -> None:
    found = duplicates_finding(
        OtherContents(
            topic="events",
            number=3,
            task_id="t",
            event_id="e",
            source="events/0/17",
            kept="events/0/3",
            at=datetime(2026, 12, 1, 10, tzinfo=UTC),
        )
    )
    assert found.state == "warning"
    assert found.says == (
        "on events 3 messages with a known id and other content were dropped, the last one at "
        "2026-12-01 10:00 UTC: events/0/17 with event_id 'e' of task 't'; events/0/3 counts"
    )
