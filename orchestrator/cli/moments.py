"""Times on the command line: one to be read, or how long ago."""

import re
from datetime import UTC, datetime, timedelta

import typer

_AGO = re.compile(r"(\d+)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def duration(text: str, *, option: str) -> timedelta:
    """`90s`, `15m`, `2h`, `7d`."""
    found = _AGO.fullmatch(text)
    if found is None:
        raise typer.BadParameter(
            f"{text!r} is no duration; expected one such as 15m, 2h, 7d", param_hint=option
        )
    return timedelta(seconds=int(found[1]) * _SECONDS[found[2]])


def moment(text: str | None, *, option: str) -> datetime | None:
    """`2026-01-31T12:00:00Z` (without a zone: UTC), or `90s`, `15m`, `2h`, `7d` ago; aware."""
    if text is None:
        return None
    ago = _AGO.fullmatch(text)
    if ago:
        return datetime.now(UTC) - timedelta(seconds=int(ago[1]) * _SECONDS[ago[2]])
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is no time; expected one such as 2026-01-31T12:00:00Z (without a zone: "
            "UTC), or 15m, 2h, 7d for so long ago",
            param_hint=option,
        ) from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)
