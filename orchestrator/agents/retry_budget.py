"""How many calls of a target may be second tries: a tenth, lest tries make an outage worse."""

from collections import deque
from dataclasses import dataclass

SLOT_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryBudgetOptions:
    share: float = 0.1
    """Of the calls of the last minute."""
    floor: int = 20
    """A minute, however few calls there are: a quiet system may try again too."""
    window_seconds: float = 60.0


@dataclass(slots=True)
class _Slot:
    begins_at: float
    calls: int = 0
    retries: int = 0


class RetryBudget:
    """Of one target in this process. Times are seconds of a clock that only goes forward."""

    def __init__(self, options: RetryBudgetOptions = RetryBudgetOptions()) -> None:
        self._options = options
        self._slots: deque[_Slot] = deque()

    def left(self, now: float) -> int:
        """Second tries that may go out now."""
        self._forget(now)
        calls = sum(slot.calls for slot in self._slots)
        retries = sum(slot.retries for slot in self._slots)
        return max(0, max(self._options.floor, int(self._options.share * calls)) - retries)

    def wait_seconds(self, now: float) -> float:
        """Until second tries of the past stop to count: the next may go out then."""
        for slot in self._slots:
            if slot.retries:
                return max(slot.begins_at + self._options.window_seconds - now, 0.0)
        return 0.0

    def count(self, now: float, *, is_retry: bool) -> None:
        """A call goes out."""
        if not self._slots or now - self._slots[-1].begins_at >= SLOT_SECONDS:
            self._forget(now)
            self._slots.append(_Slot(now))
        slot = self._slots[-1]
        slot.calls += 1
        slot.retries += is_retry

    def _forget(self, now: float) -> None:
        while self._slots and now - self._slots[0].begins_at >= self._options.window_seconds:
            self._slots.popleft()
