"""Times and durations of the command line: what can't be one is refused with what is expected."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import typer
from typer.testing import CliRunner

from orchestrator.cli.main import app
from orchestrator.cli.moments import duration, moment


def test_a_duration_is_a_number_and_a_unit() -> None:
    assert duration("90s", option="--x") == timedelta(seconds=90)
    assert duration("000000000000000000015m", option="--x") == timedelta(minutes=15)
    assert duration("366000d", option="--x") == timedelta(days=366_000)


def test_a_time_is_read_as_utc_where_it_has_no_zone() -> None:
    at = datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert moment("2026-01-31T12:00:00", option="--x") == at
    assert moment("2026-01-31T14:00:00+02:00", option="--x") == at
    assert moment(None, option="--x") is None


@pytest.mark.parametrize("read", [duration, moment])
@pytest.mark.parametrize("text", ["366001d", "9999999d", "9999999999d", "9" * 5000 + "s"])
def test_what_is_longer_than_time_is_refused(read: Callable[..., object], text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is too long; expected at most 366000d") as caught:
        read(text, option="--since")
    assert caught.value.param_hint == "--since"
    assert len(str(caught.value)) < 100


@pytest.mark.parametrize("text", ["soon", "0001-01-01T00:00:00+05:00"])
def test_a_time_that_there_is_not_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no time; expected one such as 2026-01-31T"):
        moment(text, option="--at")


@pytest.mark.parametrize(
    "arguments",
    [
        ("db", "prune", "--older-than", "9999999999d"),
        ("dead-letters", "list", "--since", "9999999d"),
        ("dead-letters", "list", "--until", "9999999d"),
        ("tasks", "cancel", "--filter", "older=9999999d"),
        ("tasks", "show", "t", "--at", "9999999d"),
    ],
    ids=" ".join,
)
def test_every_command_says_so_and_exits_2(arguments: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, list(arguments))
    assert (done.exit_code, "is too long" in done.stderr) == (2, True)
