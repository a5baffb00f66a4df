"""Times on the command line: one to be read, or how long ago."""

import re
from datetime import UTC, datetime, timedelta

import typer

from orchestrator.cli.output import shortened

_AGO = re.compile(r"(\d+)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LONGEST = timedelta(days=366_000)
"""A thousand years: such a time ago is one that Python and PostgreSQL can say."""
_DIGITS = 15
"""More are too long in every unit, and Python refuses to read thousands of them."""


def duration(text: str, *, option: str) -> timedelta:
    """`90s`, `15m`, `2h`, `7d`."""
    found = _AGO.fullmatch(text)
    if found is None:
        raise typer.BadParameter(
            f"{text!r} is no duration; expected one such as 15m, 2h, 7d", param_hint=option
        )
    return _span(found, option=option)


def moment(text: str | None, *, option: str) -> datetime | None:
    """`2026-01-31T12:00:00Z` (without a zone: UTC), or `90s`, `15m`, `2h`, `7d` ago; aware."""
    if text is None:
        return None
    ago = _AGO.fullmatch(text)
    if ago:
        return datetime.now(UTC) - _span(ago, option=option)
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(
            f"{text!r} is no time; expected one such as 2026-01-31T12:00:00Z (without a zone: "
            "UTC), or 15m, 2h, 7d for so long ago",
            param_hint=option,
        ) from error


def _span(found: re.Match[str], *, option: str) -> timedelta:
    digits = found[1].lstrip("0") or "0"
    seconds = int(digits) * _SECONDS[found[2]] if len(digits) <= _DIGITS else float("inf")
    if seconds > _LONGEST.total_seconds():
        raise typer.BadParameter(
            f"{shortened(found[0], 40)!r} is too long; expected at most {_LONGEST.days}d",
            param_hint=option,
        )
    return timedelta(seconds=seconds)
