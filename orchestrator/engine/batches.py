"""Which claimed tasks are loaded together: one that can't be read must not keep the others waiting.

A load fails because PostgreSQL is away, or because of one journal that it can't put together in
time, or has damaged. The heartbeat tells which: where that goes on, it is a journal.
"""

from collections.abc import Collection, Iterable
from datetime import timedelta

from orchestrator.domain.ids import TaskKey
from orchestrator.engine.lease import Lease


class Batches:
    """Owned by `Running`. Tasks that could not be loaded together are each loaded alone."""

    def __init__(self, lease: Lease, *, patience: timedelta) -> None:
        """`patience` is for a task that can't be loaded alone."""
        self._lease = lease
        self._patience = patience
        self._failing_since: float | None = None
        """Of the loads of several."""
        self._alone: dict[TaskKey, float | None] = {}
        """Since when its own loads fail; whose turn is next comes first."""
        self._is_ones_turn = False

    def next(self, wanted: Collection[TaskKey]) -> list[TaskKey]:
        """What to load now: by turns one of those in trouble, and all others together."""
        self._alone = {key: since for key, since in self._alone.items() if key in wanted}
        others = [key for key in wanted if key not in self._alone]
        self._is_ones_turn = bool(self._alone) and not (others and self._is_ones_turn)
        return [next(iter(self._alone))] if self._is_ones_turn else others

    def loaded(self, keys: Iterable[TaskKey]) -> None:
        """These were answered for."""
        for key in keys:
            self._alone.pop(key, None)
        if not self._is_ones_turn:
            self._failing_since = None

    def failed(self, keys: Iterable[TaskKey]) -> bool:
        """Whether it was the turn of one, and it can't be loaded though PostgreSQL is there."""
        now = self._lease.seconds()
        if self._is_ones_turn:
            (key,) = keys
            since = self._alone.pop(key)
            self._alone[key] = now if since is None else since
            has_had_time = since is not None and now - since >= self._patience.total_seconds()
            return has_had_time and self._lease.is_steady(self._patience)
        if self._failing_since is None:
            self._failing_since = now
        elif self._lease.age_seconds < now - self._failing_since:
            self._alone |= dict.fromkeys(keys)
            self._failing_since = None
        return False
