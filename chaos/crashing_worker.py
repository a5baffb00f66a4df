"""`orchestrator worker` that kills itself where the environment says; without it, a plain one.

    CHAOS_CRASH_AT="before: T3 a decision" CHAOS_CRASH_PASSAGE=3 python -m chaos.crashing_worker

SIGKILL, so that nothing is flushed and nobody says good-bye.
"""

import functools
import importlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from chaos.crash_points import BEFORE, Point, point
from orchestrator.cli import main as cli

CRASH_AT, PASSAGE = "CHAOS_CRASH_AT", "CHAOS_CRASH_PASSAGE"


def arm(at: Point, *, passage: int) -> None:
    """Lets the process die at the point's n-th passage."""
    owner: Any = importlib.import_module(at.seam.module)
    *path, name = at.seam.attribute.split(".")
    for part in path:
        owner = getattr(owner, part)
    setattr(owner, name, _deadly(getattr(owner, name), at, passage=passage))


def _deadly(
    function: Callable[..., Awaitable[Any]], at: Point, *, passage: int
) -> Callable[..., Awaitable[Any]]:
    left = passage

    @functools.wraps(function)
    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        counts = at.seam.matches(args)
        if counts and at.when == BEFORE:
            left -= 1
            _die_at(left)
        result = await function(*args, **kwargs)
        if counts and at.when != BEFORE:
            left -= 1
            _die_at(left)
        return result

    return wrapped


def _die_at(left: int) -> None:
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    name = os.environ.get(CRASH_AT)
    if name is not None:
        arm(point(name), passage=int(os.environ.get(PASSAGE, "1")))
    cli.main()


if __name__ == "__main__":
    sys.argv = ["orchestrator", "worker"]
    main()
