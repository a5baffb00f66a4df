"""How signals end a process: the first gently, the second at once.

The first SIGTERM or Ctrl-C calls what ends the work gently, or cancels where nothing has begun yet.
A second one, or a gentle end that takes too long, cancels at once.
"""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGTERM, signal.SIGINT)
SAME_SECONDS = 0.3
"""A parent (make, `timeout`) may hand on a signal that reached us already: that is one."""


class Stop:
    """Written by the signal handlers alone; read by whoever ends the process."""

    def __init__(self) -> None:
        self.is_asked = False
        """Somebody asked the process to end."""
        self.is_forced = False
        """The end was not gentle: a second signal, or the time for a gentle one was over."""
        self._gently: Callable[[], None] | None = None
        self._within_seconds = 0.0
        self._asked_at = 0.0
        self._main: asyncio.Task[object] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @contextmanager
    def listening(self) -> Iterator["Stop"]:
        """Signals end the current task while inside."""
        loop = asyncio.get_running_loop()
        self._main = asyncio.current_task()
        for number in SIGNALS:
            loop.add_signal_handler(number, self.ask)
        try:
            yield self
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)
            if self._timer is not None:
                self._timer.cancel()

    def ends_gently(self, end: Callable[[], None], *, within_seconds: float) -> None:
        """From now on the first signal calls `end`, which has so long to have its effect."""
        self._gently, self._within_seconds = end, within_seconds
        if self.is_asked:
            end()

    def ask(self) -> None:
        """What a signal does; the second time at once."""
        loop = asyncio.get_running_loop()
        if self.is_asked:
            if loop.time() - self._asked_at > SAME_SECONDS:
                self._force()
            return
        self.is_asked, self._asked_at = True, loop.time()
        if self._gently is None:
            self._cancel()
            return
        self._gently()
        self._timer = loop.call_later(self._within_seconds, self._force)

    def _force(self) -> None:
        # Once: another cancellation would break off what the first one made the work clean up.
        if not self.is_forced:
            self.is_forced = True
            self._cancel()

    def _cancel(self) -> None:
        if self._main is not None:
            self._main.cancel()
