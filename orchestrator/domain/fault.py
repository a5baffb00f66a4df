"""What a failed call says about the other side. Free of pydantic: `--help` loads the errors."""

from enum import StrEnum


class Fault(StrEnum):
    """What a failed call says about whoever was called, whatever it means for the task.

    An answer that can't be used, or a refusal (4xx), is none: the other side is there.
    """

    UNAVAILABLE = "unavailable"
    """Nobody there: no connection, or a 502, 503, 504 or 529 in its place."""
    FAILED = "failed"
    """It broke: any other 5xx, a time-out, a connection that was cut."""
    LIMITED = "limited"
    """It is there and has enough: 429, or 503 with the time to come back."""
