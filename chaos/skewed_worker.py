"""`orchestrator worker` whose wall clock is wrong; without the variable, a plain one.

CHAOS_CLOCK_OFF_SECONDS=3600 python -m chaos.skewed_worker
"""

import os
import sys
import time
from datetime import datetime, timedelta, tzinfo
from typing import Any

from orchestrator.cli import main as cli

CLOCK_OFF = "CHAOS_CLOCK_OFF_SECONDS"


class _LikeDatetime(type):
    """In everything but `now` it is `datetime`, also to `isinstance`."""

    def __getattr__(cls, name: str) -> Any:
        return getattr(datetime, name)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return datetime(*args, **kwargs)  # noqa: DTZ001 - its zone is the caller's matter

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, datetime)


def set_off(seconds: float) -> None:
    """For the product's modules, as far as they are imported, and for whoever asks `time.time`."""
    right = time.time

    class Wrong(metaclass=_LikeDatetime):
        @staticmethod
        def now(tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + timedelta(seconds=seconds)

    for name, module in list(sys.modules.items()):
        if name.startswith("orchestrator") and vars(module).get("datetime") is datetime:
            vars(module)["datetime"] = Wrong
    time.time = lambda: right() + seconds


def main() -> None:
    if seconds := float(os.environ.get(CLOCK_OFF) or 0):
        set_off(seconds)
    cli.main()


if __name__ == "__main__":
    sys.argv = ["orchestrator", "worker"]
    main()
