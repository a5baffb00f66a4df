"""What a process can say about itself: the shape of a check, and where the answers are served."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

Check = Callable[[], Awaitable[str | None]]
"""None where all is well, else the reason in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthOptions:
    """Where the probes answer, and where the metrics are served."""

    host: str = "0.0.0.0"  # noqa: S104 - probes come from outside the container
    port: int = 8080
    """0 for any free one."""
    metrics_host: str | None = None
    """None: `host`."""
    metrics_port: int | None = None
    """None: `port`. With a port of their own, the metrics and the probes' reasons are only there:
    they name addresses, tenants and costs."""
