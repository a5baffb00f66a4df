"""One task until it rests: fold in what came, look what follows, do it, journal it, again.

A decision is on disk before any of its calls goes out, a rest before the task is let go. Results
are handed to the journal without waiting: the next commit of the task covers them.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from orchestrator.domain.agent import Agent
from orchestrator.domain.call import CallStatus
from orchestrator.domain.decision import Complete, Delegate, Fail, Turn, Wait
from orchestrator.domain.errors import ModelFailed
from orchestrator.domain.event import CANCEL, TIMEOUT, InboxMessage
from orchestrator.domain.ids import AgentId, Seq, TaskKey
from orchestrator.domain.json import JsonObject
from orchestrator.domain.step import (
    ATTEMPTS_SPENT,
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
from orchestrator.engine.record import Record
from orchestrator.planners.planner import Planner
from orchestrator.store.claims import Loaded
from orchestrator.store.journal import Rest
from orchestrator.telemetry.logs import get_logger

MAX_REASON_CHARACTERS = 500

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
        self._record = Record(loaded, tools.journal, now=tools.now)
        self._unapplied = loaded.inbox
        self._tools = tools

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
        limits = self._tools.options.limits
        while True:
            if await self._apply_messages():
                return await self._end(Cancelled(reason=self._cancel_reason()))
            move = next_move(self._record.snapshot, now=self._tools.now(), limits=limits)
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
                self._record.add(EventApplied(event_type=TIMEOUT, payload=payload))
            case GiveUp(calls=late):
                for step, call in late:
                    self._record.add(_gave_up(step, call.number, call.agent))
        return None

    # Messages

    async def _apply_messages(self) -> bool:
        """Folds unread messages in; true when one of them cancels the task."""
        messages, self._unapplied = self._unapplied, ()
        if not messages:
            return False
        agents = await self._agents()
        steps = fold(
            self._record.snapshot,
            messages,
            output_fields=lambda agent: agents[agent].output_fields if agent in agents else (),
        )
        applied = tuple((m.id, s.seq) for m, s in zip(messages, steps, strict=False))
        self._record.enqueue(steps, applied=applied)
        last = steps[-1].body
        return isinstance(last, EventApplied) and last.event_type == CANCEL

    def _cancel_reason(self) -> str:
        body = self._record.snapshot.steps[-1].body
        reason = body.payload.get("reason") if isinstance(body, EventApplied) else None
        return str(reason) if reason is not None else "a cancel event"

    async def _commit(self, steps: Sequence[Step]) -> None:
        """Commits, and fetches the messages that came meanwhile."""
        written = await self._record.commit(steps)
        if written.wake > self._record.seen:
            key = self._record.snapshot.task.key
            self._unapplied, self._record.seen = await self._tools.unread(key)

    # The planner

    async def _ask(self, attempt: int) -> TaskStatus | None:
        await self._tools.lease.held()
        try:
            turn = await self._tools.planner.plan(self._record.snapshot)
        except ModelFailed as error:
            return await self._model_failed(error, attempt)
        decided = self._record.next(_decided(turn), change=_turn_change(turn))
        log.debug("decision", step=decided.seq, type=turn.decision.type, tokens=turn.usage.total)
        return await self._follow(turn, decided)

    async def _follow(self, turn: Turn, decided: Step) -> TaskStatus | None:
        match turn.decision:
            case Delegate():
                await self._commit([decided])
                return None
            case Wait():
                # It has no effect to wait for: the rest that follows covers it, or the completion,
                # and knows the time at which the task's limits end the wait.
                self._record.enqueue([decided])
                return None
            case Complete(result=result):
                missing = self._record.snapshot.after([decided]).context.missing
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
            code = ATTEMPTS_SPENT if error.retryable else "model"
            return await self._end(Failed(code=code, reason=f"the model failed: {error}"))
        self._record.add(AttemptFailed(attempt=attempt, error=str(error), retry_at=retry_at))
        return None

    # Agents

    async def _agents(self) -> dict[AgentId, Agent]:
        tenant = self._record.snapshot.task.tenant
        return {agent.id: agent for agent in await self._tools.agents(tenant)}

    async def _make(self, due: Sequence[DueCall]) -> None:
        agents = await self._agents()
        await self._announce(due, agents)
        async with asyncio.TaskGroup() as group:
            for call in due:
                group.create_task(self._make_one(call, agents.get(call.call.agent)))

    async def _announce(self, due: Sequence[DueCall], agents: dict[AgentId, Agent]) -> None:
        """Journals the calls that must never go out twice before any of them goes out."""
        once = [
            CallStarted(step=d.step, call=d.call.number, agent=d.call.agent)
            for d in due
            if not d.was_started
            and d.call.agent in agents
            and agents[d.call.agent].effects == "at_most_once"
        ]
        if once:
            await self._commit([self._record.next(b, ahead=n) for n, b in enumerate(once, 1)])

    async def _make_one(self, due: DueCall, agent: Agent | None) -> None:
        outcome = await self._tools.calls.make(due, self._record.snapshot, agent)
        self._record.add(outcome.body, change=outcome.change)

    # Rests and ends

    async def _rest(self, sleep: Sleep) -> TaskStatus:
        steps: list[Step] = []
        body = Rested(waiting_for=sleep.waiting_for, until=sleep.until)
        history = self._record.snapshot.steps
        # A look that found nothing new leaves no second step that says the same.
        if not history or history[-1].body != body:
            change: JsonObject = {"current_state": f"waiting for {sleep.waiting_for}"}
            steps.append(self._record.next(body, change=change))
        rest = Rest(status=TaskStatus.WAITING, run_at=sleep.until, reason=sleep.waiting_for)
        written = await self._record.commit(steps, rest=rest)
        self._tools.rested(self._tools.now() if written.status.is_due else sleep.until)
        return written.status

    async def _end(
        self, body: Completed | Failed | Cancelled, *, first: Step | None = None
    ) -> TaskStatus:
        steps = [first] if first is not None else []
        status, reason = _ending(body)
        state = status.value if reason is None else f"{status.value}: {reason}"
        change: JsonObject = {"current_state": state}
        steps.append(self._record.next(body, change=change, ahead=len(steps) + 1))
        is_spent = isinstance(body, Failed) and body.code == ATTEMPTS_SPENT
        told = self._tools.options.dead_letters if is_spent else None
        rest = Rest(status=status, reason=reason, dead_letters=told)
        written = await self._record.commit(steps, rest=rest)
        return written.status

    async def _end_poisoned(self, error: Poisoned) -> TaskStatus:
        body = Failed(code=error.code, reason=str(error)[:MAX_REASON_CHARACTERS])
        rest = Rest(status=TaskStatus.FAILED, reason=body.reason)
        return (await self._record.commit_instead(error.seq, body, rest=rest)).status


def _decided(turn: Turn) -> Decided:
    return Decided(
        decision=turn.decision,
        message=turn.message,
        replies=turn.replies,
        is_repair=turn.is_repair,
        model=turn.model,
        usage=turn.usage,
        duration_ms=turn.duration_ms,
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


def _ending(body: Completed | Failed | Cancelled) -> tuple[TaskStatus, str | None]:
    match body:
        case Completed():
            return TaskStatus.COMPLETED, None
        case Failed(reason=reason):
            return TaskStatus.FAILED, reason
        case Cancelled(reason=reason):
            return TaskStatus.CANCELLED, reason


def _gave_up(step: Seq, call: int, agent: AgentId) -> CallFinished:
    return CallFinished(
        step=step,
        call=call,
        agent=agent,
        status=CallStatus.ERROR,
        error="no answer came within the time that it may take",
    )
