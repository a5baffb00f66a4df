"""What comes from the other side of a connection, and is no text or no time."""

from datetime import UTC, datetime

import pytest

from orchestrator.agents.http import agent_errors, retry_after_seconds
from orchestrator.domain.errors import AgentFailed

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("30", 30.0),
        ("Sat, 31 Jan 2026 12:01:00 GMT", 60.0),
        ("Mon, 01 Jan 99999999999 00:00:00 GMT", None),
        ("Sat, 31 Jan 2026 12:01:00 +99999999999999999999", None),
        ("soon", None),
        (None, None),
    ],
)
def test_a_wish_to_be_asked_later_is_a_number_of_seconds_or_none(
    said: str | None, seconds: float | None
) -> None:
    assert retry_after_seconds(said, now=NOW) == seconds


def test_what_is_no_text_is_an_answer_that_cant_be_used() -> None:
    says = "'crm' has an endpoint that can't be called"
    with pytest.raises(AgentFailed, match=says), agent_errors("crm"):
        b"\xff".decode()
