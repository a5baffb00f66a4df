"""Opening a part waits out what passes, and raises what does not."""

from collections.abc import Awaitable, Callable

import pytest
import structlog
from tenacity import wait_none

from orchestrator import app
from orchestrator.app import patiently
from orchestrator.domain.errors import (
    InvalidSettings,
    KafkaUnavailable,
    SchemaMismatch,
    StoreRejected,
    StoreUnavailable,
)


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "wait_random_exponential", lambda **_: wait_none())


def failing(*errors: Exception) -> Callable[[], Awaitable[str]]:
    """Raises these, one each time, and then succeeds."""
    script = list(errors)

    async def action() -> str:
        if script:
            raise script.pop(0)
        return "opened"

    return action


async def test_what_succeeds_is_done_once() -> None:
    assert await patiently("PostgreSQL", failing()) == "opened"


async def test_errors_that_pass_are_waited_out() -> None:
    errors = [StoreUnavailable("nobody there")] * 12 + [KafkaUnavailable("no broker")]
    assert await patiently("PostgreSQL", failing(*errors)) == "opened"


async def test_each_wait_says_for_what_and_why() -> None:
    with structlog.testing.capture_logs() as lines:
        await patiently("PostgreSQL", failing(StoreUnavailable("nobody there")))
    assert lines == [
        {
            "event": "waiting",
            "log_level": "warning",
            "waits_for": "PostgreSQL",
            "error": "nobody there",
            "next_try_seconds": 0,
        }
    ]


@pytest.mark.parametrize(
    "error",
    [
        SchemaMismatch("run `orchestrator migrate`"),
        InvalidSettings("DATABASE_URL"),
        StoreRejected("a value"),
        ValueError("a bug"),
    ],
)
async def test_what_waiting_does_not_mend_is_raised_as_it_is(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        await patiently("PostgreSQL", failing(StoreUnavailable("nobody there"), error))
    assert caught.value is error
