"""What a process can say about itself: the shape of a check, and where the answers are served."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

Check = Callable[[], Awaitable[str | None]]
"""None where all is well, else the reason in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthOptions:
    """Where the probes answer."""

    host: str = "0.0.0.0"  # noqa: S104 - probes come from outside the container
    port: int = 8080
    """0 for any free one."""
