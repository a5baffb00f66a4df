"""One task's own journal while a runner has it: numbers its steps and knows what they add up to."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

import orjson

from orchestrator.domain.context import Context
from orchestrator.domain.ids import Seq
from orchestrator.domain.json import JsonObject
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import AttemptFailed, CallFinished, Decided, Forked, Step, StepBody
from orchestrator.engine.journal import Journal
from orchestrator.store.journal import Entry, Rest, Written
from orchestrator.store.loading import Loaded
from orchestrator.telemetry.logs import get_logger

CONTEXT_BYTES = 4096
"""Up to here the context is written with each commit; a larger one at rest, or now and then."""
CONTEXT_EVERY_STEPS = 20

Applied = tuple[tuple[int, Seq], ...]

log = get_logger(__name__)


class Record:
    """Owned by one runner. What is added is in `snapshot` at once, on disk with the next commit."""

    def __init__(self, loaded: Loaded, journal: Journal, *, now: Callable[[], datetime]) -> None:
        self.snapshot = loaded.snapshot
        self.seen = loaded.wake
        """`tasks.wake` when the inbox was last read."""
        self.is_closed = False
        """The task rests or is over. Until it is claimed again nothing else refuses a step that a
        call which outlived its cut would add: the epoch is still this runner's."""
        self._journal = journal
        self._now = now
        self._tokens, self._cost_micros = _used(_own(loaded.snapshot.steps))
        self._context_seq = loaded.snapshot.seq

    def next(self, body: StepBody, *, change: JsonObject | None = None, ahead: int = 1) -> Step:
        """The step that comes next, or `ahead` steps on; it is not added yet."""
        return Step(seq=Seq(self.snapshot.seq + ahead), body=body, change=change)

    def add(self, body: StepBody, *, change: JsonObject | None = None) -> None:
        """Adds a step that need not be on disk before anything else happens."""
        self.enqueue([self.next(body, change=change)])

    def enqueue(self, steps: Sequence[Step], *, applied: Applied = ()) -> None:
        """Adds steps, with the inbox messages that they apply; drops them after a rest."""
        if self.is_closed:
            kinds = [step.body.kind for step in steps]
            log.warning("dropped: it came after the task came to rest", steps=kinds)
            return
        self._take(steps)
        self._journal.enqueue(self._entry(steps, applied=applied))

    async def commit(
        self, steps: Sequence[Step], *, rest: Rest | None = None, whole: bool = False
    ) -> Written:
        """Adds steps; returns when they, and all that were added before, are on disk.

        `whole`: the context too, however large it is.

        Raises:
            Fenced: the task has a newer owner.
            Poisoned: a value of one of its steps can't be stored.
        """
        self._take(steps)
        self.is_closed = self.is_closed or rest is not None
        context = self._context_text(is_needed=whole or rest is not None)
        return await self._journal.commit(self._entry(steps, rest=rest, context=context))

    def before(self, refused: Seq) -> Snapshot:
        """The task without the steps from the one on that can't be stored."""
        kept = tuple(step for step in self.snapshot.steps if step.seq < refused)
        # Added up again: the context in memory holds what was refused. The first step brought all.
        return replace(self.snapshot, context=Context(), steps=()).after(kept)

    async def commit_instead(
        self, refused: Seq, body: StepBody, *, change: JsonObject | None, rest: Rest | None = None
    ) -> Written:
        """The journal goes on with `body` in the place of the step that can't be stored."""
        self.snapshot = self.before(refused)
        # What is refused may be the sum itself: with it the entry that mends would be refused too.
        self._tokens, self._cost_micros = _used(_own(self.snapshot.steps))
        self.is_closed = False
        self._journal.forgive(self.snapshot.task.key, self.snapshot.epoch)
        return await self.commit([self.next(body, change=change)], rest=rest)

    def _take(self, steps: Sequence[Step]) -> None:
        now = self._now()
        self.snapshot = self.snapshot.after([replace(step, at=now) for step in steps])
        tokens, cost_micros = _used(steps)
        self._tokens += tokens
        self._cost_micros += cost_micros

    def _entry(
        self,
        steps: Sequence[Step],
        *,
        applied: Applied = (),
        rest: Rest | None = None,
        context: str | None = None,
    ) -> Entry:
        return Entry(
            key=self.snapshot.task.key,
            epoch=self.snapshot.epoch,
            seq=self.snapshot.seq,
            steps=tuple(steps),
            applied=applied,
            context=context,
            tokens=self._tokens,
            cost_micros=self._cost_micros,
            seen=self.seen,
            rest=rest,
        )

    def _context_text(self, *, is_needed: bool) -> str | None:
        try:
            text = orjson.dumps(self.snapshot.context.to_json())
        except TypeError:
            return None  # the step that brought what JSON can't hold is refused, and says so
        is_due = self.snapshot.seq - self._context_seq >= CONTEXT_EVERY_STEPS
        if len(text) > CONTEXT_BYTES and not is_needed and not is_due:
            return None
        self._context_seq = self.snapshot.seq
        return text.decode()


def _own(steps: Sequence[Step]) -> Sequence[Step]:
    """Without what was copied from another task."""
    for index in range(len(steps) - 1, -1, -1):
        if isinstance(steps[index].body, Forked):
            return steps[index:]
    return steps


def _used(steps: Sequence[Step]) -> tuple[int, int]:
    """Tokens and money of these steps."""
    tokens = cost_micros = 0
    for step in steps:
        if isinstance(step.body, Decided | AttemptFailed):
            tokens += step.body.usage.total
            cost_micros += step.body.cost_micros
        elif isinstance(step.body, CallFinished):
            cost_micros += step.body.cost_micros
    return tokens, cost_micros
