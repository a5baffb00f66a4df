"""One task until it rests: fold in what came, look what follows, do it, journal it, again.

A decision is on disk before any of its calls goes out, a rest before the task is let go. Results
are handed to the journal without waiting: the next commit of the task covers them.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson

from orchestrator.domain.agent import Agent
from orchestrator.domain.call import CallStatus
from orchestrator.domain.decision import Complete, Delegate, Fail, Turn, Wait
from orchestrator.domain.errors import ModelFailed
from orchestrator.domain.event import CANCEL, TIMEOUT, InboxMessage
from orchestrator.domain.ids import AgentId, Seq, TaskKey
from orchestrator.domain.json import JsonObject
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import (
    AttemptFailed,
    CallFinished,
    CallStarted,
    Cancelled,
    Completed,
    Decided,
    EventApplied,
    Failed,
    Rested,
    Step,
    StepBody,
)
from orchestrator.domain.task import TaskStatus
from orchestrator.engine.calls import Calls
from orchestrator.engine.fold import fold
from orchestrator.engine.journal import Journal, Poisoned
from orchestrator.engine.lease import Lease
from orchestrator.engine.moves import (
    Ask,
    DueCall,
    Finish,
    GiveUp,
    MakeCalls,
    Move,
    Sleep,
    TimeOut,
    next_move,
)
from orchestrator.engine.options import EngineOptions
from orchestrator.planners.planner import Planner
from orchestrator.store.claims import Loaded
from orchestrator.store.journal import Entry, Rest, Written
from orchestrator.telemetry.logs import get_logger

CONTEXT_BYTES = 4096
"""Up to here the context is written with each commit; a larger one at rest, or now and then."""
CONTEXT_EVERY_STEPS = 20

log = get_logger(__name__)

Unread = Callable[[TaskKey], Awaitable[tuple[tuple[InboxMessage, ...], int]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What every runner of a worker shares."""

    planner: Planner
    agents: Callable[[str], Awaitable[Sequence[Agent]]]
    """The agents of a tenant, as declared at this moment."""
    calls: Calls
    journal: Journal
    lease: Lease
    options: EngineOptions
    unread: Unread
    now: Callable[[], datetime]
    rested: Callable[[datetime | None], None]
    """Told of each rest, with the time at which the task has to be looked at again."""


class Runner:
    """Owned by one coroutine, `run`; nobody else touches its fields."""

    def __init__(self, loaded: Loaded, tools: Tools) -> None:
        self._snapshot = loaded.snapshot
        self._unapplied = loaded.inbox
        self._seen = loaded.wake
        self._tools = tools
        self._tokens = sum(
            s.body.usage.total for s in loaded.snapshot.steps if isinstance(s.body, Decided)
        )
        self._context_seq = loaded.snapshot.seq

    @property
    def snapshot(self) -> Snapshot:
        return self._snapshot

    async def run(self) -> TaskStatus:
        """Returns the status in which the task was left.

        Raises:
            Fenced: it has a newer owner; nothing may be done about it here.
        """
        try:
            return await self._until_rest()
        except Poisoned as error:
            return await self._end_poisoned(error)

    async def _until_rest(self) -> TaskStatus:
        while True:
            if await self._apply_messages():
                return await self._end(Cancelled(reason=self._cancel_reason()))
            move = next_move(
                self._snapshot, now=self._tools.now(), limits=self._tools.options.limits
            )
            status = await self._carry_out(move)
            if status is not None:
                return status

    async def _carry_out(self, move: Move) -> TaskStatus | None:
        """Does it; answers the task's status where it came to rest."""
        match move:
            case Finish(outcome=outcome):
                return await self._end(outcome)
            case Sleep():
                return await self._rest(move)
            case Ask(attempt=attempt):
                return await self._ask(attempt)
            case MakeCalls(calls=due):
                await self._make(due)
            case TimeOut(waiting_for=waiting_for):
                payload: JsonObject = {"waited_for": waiting_for}
                self._record(EventApplied(event_type=TIMEOUT, payload=payload))
            case GiveUp(calls=late):
                for step, call in late:
                    self._record(_gave_up(step, call.number, call.agent))
        return None

    # Messages

    async def _apply_messages(self) -> bool:
        """Folds unread messages in; true when one of them cancels the task."""
        messages, self._unapplied = self._unapplied, ()
        if not messages:
            return False
        agents = await self._agents()
        steps = fold(
            self._snapshot,
            messages,
            output_fields=lambda agent: agents[agent].output_fields if agent in agents else (),
        )
        applied = tuple((m.id, s.seq) for m, s in zip(messages, steps, strict=False))
        self._enqueue(steps, applied=applied)
        last = steps[-1].body
        return isinstance(last, EventApplied) and last.event_type == CANCEL

    def _cancel_reason(self) -> str:
        body = self._snapshot.steps[-1].body
        reason = body.payload.get("reason") if isinstance(body, EventApplied) else None
        return str(reason) if reason is not None else "a cancel event"

    async def _read_news(self, written: Written) -> None:
        if written.wake > self._seen:
            self._unapplied, self._seen = await self._tools.unread(self._snapshot.task.key)

    # The planner

    async def _ask(self, attempt: int) -> TaskStatus | None:
        await self._tools.lease.held()
        try:
            turn = await self._tools.planner.plan(self._snapshot)
        except ModelFailed as error:
            return await self._model_failed(error, attempt)
        body = Decided(
            decision=turn.decision,
            message=turn.message,
            replies=turn.replies,
            is_repair=turn.is_repair,
            model=turn.model,
            usage=turn.usage,
            duration_ms=turn.duration_ms,
        )
        self._tokens += turn.usage.total
        decided = self._next(body, change=_turn_change(turn))
        log.info("decision", step=decided.seq, type=turn.decision.type, tokens=turn.usage.total)
        return await self._follow(turn, decided)

    async def _follow(self, turn: Turn, decided: Step) -> TaskStatus | None:
        match turn.decision:
            case Delegate():
                await self._commit([decided])
                return None
            case Wait(waiting_for=waiting_for, until=until):
                return await self._rest(Sleep(waiting_for=waiting_for, until=until), first=decided)
            case Complete(result=result):
                missing = self._snapshot.after([decided]).context.missing
                if missing:
                    reason = f"completed by the planner without {', '.join(missing)}"
                    return await self._end(Failed(reason=reason), first=decided)
                return await self._end(Completed(result=result), first=decided)
            case Fail(reason=reason):
                return await self._end(Failed(reason=reason), first=decided)

    async def _model_failed(self, error: ModelFailed, attempt: int) -> TaskStatus | None:
        retry_at = None
        if error.retryable:
            retry_at = self._tools.options.model_retry.next_attempt_at(
                attempt,
                now=self._tools.now(),
                retry_after_seconds=error.retry_after_seconds,
                random=random.random,
            )
        if retry_at is None:
            code = "attempts_spent" if error.retryable else "model"
            return await self._end(Failed(code=code, reason=f"the model failed: {error}"))
        self._record(AttemptFailed(attempt=attempt, error=str(error), retry_at=retry_at))
        return None

    # Agents

    async def _agents(self) -> dict[AgentId, Agent]:
        return {a.id: a for a in await self._tools.agents(self._snapshot.task.tenant)}

    async def _make(self, due: Sequence[DueCall]) -> None:
        agents = await self._agents()
        await self._announce(due, agents)
        async with asyncio.TaskGroup() as group:
            for call in due:
                name = f"call {self._snapshot.task.task_id}/{call.step}/{call.call.number}"
                group.create_task(self._make_one(call, agents.get(call.call.agent)), name=name)

    async def _announce(self, due: Sequence[DueCall], agents: dict[AgentId, Agent]) -> None:
        """Journals the calls that must never go out twice before any of them goes out."""
        first = self._snapshot.seq + 1
        once = [
            CallStarted(step=d.step, call=d.call.number, agent=d.call.agent)
            for d in due
            if not d.was_started
            and d.call.agent in agents
            and agents[d.call.agent].effects == "at_most_once"
        ]
        if once:
            await self._commit([Step(seq=Seq(first + i), body=b) for i, b in enumerate(once)])

    async def _make_one(self, due: DueCall, agent: Agent | None) -> None:
        outcome = await self._tools.calls.make(due, self._snapshot, agent)
        self._record(outcome.body, change=outcome.change)

    # The journal

    def _next(self, body: StepBody, *, change: JsonObject | None = None) -> Step:
        return Step(seq=Seq(self._snapshot.seq + 1), body=body, change=change)

    def _record(self, body: StepBody, *, change: JsonObject | None = None) -> None:
        self._enqueue([self._next(body, change=change)])

    def _enqueue(self, steps: Sequence[Step], *, applied: tuple[tuple[int, Seq], ...] = ()) -> None:
        self._take(steps)
        self._tools.journal.enqueue(self._entry(steps, applied=applied))

    def _take(self, steps: Sequence[Step]) -> None:
        now = self._tools.now()
        timed = [Step(seq=s.seq, body=s.body, change=s.change, at=now) for s in steps]
        self._snapshot = self._snapshot.after(timed)

    async def _commit(self, steps: Sequence[Step], *, rest: Rest | None = None) -> Written:
        self._take(steps)
        entry = self._entry(steps, rest=rest, context=self._context_text(at_rest=rest is not None))
        written = await self._tools.journal.commit(entry)
        if rest is None:
            await self._read_news(written)
        return written

    def _entry(
        self,
        steps: Sequence[Step],
        *,
        applied: tuple[tuple[int, Seq], ...] = (),
        rest: Rest | None = None,
        context: str | None = None,
    ) -> Entry:
        return Entry(
            key=self._snapshot.task.key,
            epoch=self._snapshot.epoch,
            seq=self._snapshot.seq,
            steps=tuple(steps),
            applied=applied,
            context=context,
            tokens=self._tokens,
            seen=self._seen,
            rest=rest,
        )

    def _context_text(self, *, at_rest: bool) -> str | None:
        text = orjson.dumps(self._snapshot.context.to_json())
        is_due = self._snapshot.seq - self._context_seq >= CONTEXT_EVERY_STEPS
        if len(text) > CONTEXT_BYTES and not at_rest and not is_due:
            return None
        self._context_seq = self._snapshot.seq
        return text.decode()

    # Rests and ends

    async def _rest(self, sleep: Sleep, *, first: Step | None = None) -> TaskStatus:
        steps = [first] if first is not None else []
        body = Rested(waiting_for=sleep.waiting_for, until=sleep.until)
        last = self._snapshot.steps[-1].body if self._snapshot.steps and first is None else None
        if body != last:
            seq = Seq(self._snapshot.seq + 1 + len(steps))
            state = f"waiting for {sleep.waiting_for}"
            steps.append(Step(seq=seq, body=body, change={"current_state": state}))
        rest = Rest(status=TaskStatus.WAITING, run_at=sleep.until, reason=sleep.waiting_for)
        written = await self._commit(steps, rest=rest)
        self._tools.rested(self._tools.now() if written.status.is_due else sleep.until)
        return written.status

    async def _end(
        self, body: Completed | Failed | Cancelled, *, first: Step | None = None
    ) -> TaskStatus:
        steps = [first] if first is not None else []
        seq = Seq(self._snapshot.seq + 1 + len(steps))
        match body:
            case Completed():
                status, state, reason = TaskStatus.COMPLETED, "completed", None
            case Failed(reason=why):
                status, state, reason = TaskStatus.FAILED, f"failed: {why}", why
            case Cancelled(reason=why):
                status, state, reason = TaskStatus.CANCELLED, f"cancelled: {why}", why
        steps.append(Step(seq=seq, body=body, change={"current_state": state}))
        written = await self._commit(steps, rest=Rest(status=status, reason=reason))
        return written.status

    async def _end_poisoned(self, error: Poisoned) -> TaskStatus:
        """The journal ends before the value that PostgreSQL refuses; the task fails there."""
        kept = tuple(s for s in self._snapshot.steps if s.seq < error.seq)
        context = self._snapshot.context
        self._snapshot = Snapshot(
            task=self._snapshot.task, epoch=self._snapshot.epoch, context=context, steps=kept
        )
        self._tools.journal.forgive(self._snapshot.task.key, self._snapshot.epoch)
        body = Failed(code="store_rejected", reason=str(error)[:500])
        step = self._next(body, change={"current_state": "failed: a value can't be stored"})
        self._take([step])
        rest = Rest(status=TaskStatus.FAILED, reason=body.reason)
        return (await self._tools.journal.commit(self._entry([step], rest=rest))).status


def _gave_up(step: Seq, call: int, agent: AgentId) -> CallFinished:
    return CallFinished(
        step=step,
        call=call,
        agent=agent,
        status=CallStatus.ERROR,
        error="no answer came within the time that it may take",
    )


def _turn_change(turn: Turn) -> JsonObject | None:
    change: JsonObject = {}
    if turn.collected:
        change["collected_data"] = turn.collected
    state = turn.state
    if state is None and isinstance(turn.decision, Delegate) and turn.decision.calls:
        state = f"calling {', '.join(c.agent for c in turn.decision.calls)}"
    if state is not None:
        change["current_state"] = state
    return change or None
