"""One task until it rests: fold in what came, look what follows, do it, journal it, again.

A decision is on disk before any of its calls goes out, a rest before the task is let go. Results
are handed to the journal without waiting: the next commit of the task covers them.

While calls or a turn of the model are under way a bell tells of messages that can't wait, and the
clock of the task's end: what is under way is cut then.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from orchestrator.domain.agent import Agent
from orchestrator.domain.decision import Complete, Delegate, Fail, Turn, Wait
from orchestrator.domain.errors import ModelFailed, NotNow
from orchestrator.domain.event import CANCEL, PAUSE, TIMEOUT
from orchestrator.domain.ids import AgentId, Seq
from orchestrator.domain.json import JsonObject
from orchestrator.domain.step import (
    CallFinished,
    CallParked,
    Cancelled,
    Completed,
    EventApplied,
    Failed,
    Rested,
    Step,
)
from orchestrator.domain.task import TaskStatus
from orchestrator.engine.budgets import with_allowance
from orchestrator.engine.call_states import DueCall
from orchestrator.engine.compensation import COMPENSATING, begun
from orchestrator.engine.facts import (
    announced,
    as_declared,
    budget_spent,
    came_second,
    decided_by,
    ending,
    gave_up,
    letter_of,
    model_failure,
    not_made,
    rest_reason,
    turn_change,
)
from orchestrator.engine.fold import FOLDED_AT_ONCE, fold
from orchestrator.engine.journal import Poisoned
from orchestrator.engine.moves import (
    Abandon,
    Ask,
    Finish,
    GiveUp,
    MakeCalls,
    Move,
    Sleep,
    TimeOut,
    ends_at,
    finished_calls,
    is_over,
    may_be_averted,
    next_move,
)
from orchestrator.engine.parked import parked_change, was_told
from orchestrator.engine.poison import in_place_of
from orchestrator.engine.record import Record
from orchestrator.engine.sent_calls import SentCalls
from orchestrator.engine.tools import Tools
from orchestrator.engine.under_way import Bell, raise_first, under_way
from orchestrator.planners.planner import OverBudget
from orchestrator.store.journal import Rest
from orchestrator.store.loading import Loaded
from orchestrator.telemetry.logs import get_logger

OPENED_CAUSES = frozenset({"paused", "breaker_open", "limited"})
"""What ends at a moment that nobody knows; the other causes gave each call a time of its own."""

log = get_logger(__name__)


class Runner:
    """Owned by one coroutine, `run`; nobody else touches its fields, but rings its bell."""

    def __init__(self, loaded: Loaded, tools: Tools) -> None:
        self._record = Record(loaded, tools.journal, now=tools.now)
        self._unapplied = loaded.inbox
        self._tools = tools
        self._bell = Bell()
        self._reading = asyncio.Lock()
        """Messages are read by one at a time, or they would be applied twice."""
        self._sent = SentCalls(loaded_seq=loaded.snapshot.seq)
        self._parked: dict[tuple[Seq, int] | None, CallParked] = {}
        """What could not be called; until the rest that follows."""

    def ring(self) -> None:
        """There may be a message that can't wait."""
        self._bell.ring()

    async def run(self) -> TaskStatus:
        """Returns the status in which the task was left.

        Raises:
            Fenced: it has a newer owner; nothing may be done about it here.
        """
        while True:
            try:
                return await self._until_rest()
            except Poisoned as error:
                status = await self._go_on_without(error)
                if status is not None:
                    return status

    async def _until_rest(self) -> TaskStatus:
        while True:
            await self._apply_messages()
            move = self._next_move()
            if may_be_averted(move):
                await self._commit(())
                if self._unapplied:
                    continue  # a top-up may be among them
            status = await self._carry_out(move)
            if status is not None:
                return status

    def _next_move(self) -> Move:
        limits = self._tools.options.limits
        now, snapshot = self._tools.now(), self._record.snapshot
        return next_move(snapshot, now=now, limits=limits, parked=self._parked)

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
                    self._record.add(gave_up(step, call))
            case Abandon(calls=left):
                await self._abandon(left)
        return None

    # Messages

    async def _apply_messages(self) -> None:
        """Folds unread messages in: of many a part at a time, so that others have their turn."""
        if not self._unapplied:
            return
        while messages := self._unapplied[:FOLDED_AT_ONCE]:
            self._unapplied = self._unapplied[FOLDED_AT_ONCE:]
            before = self._record.snapshot
            steps = fold(before, messages, agents=await self._agents())
            applied = tuple((m.id, s.seq) for m, s in zip(messages, steps, strict=False))
            self._record.enqueue(steps, applied=applied)
            if len(steps) < len(messages):
                self._unapplied = ()  # after a cancel nothing is applied any more
            if self._unapplied:
                await self._commit(())

    async def _hear(self) -> None:
        """Applies what came, and shows it: the context that says so is written too."""
        self._bell.quiet()
        await self._commit(())
        while self._unapplied:
            await self._apply_messages()
            await self._commit((), whole=True)

    async def _commit(self, steps: Sequence[Step], *, whole: bool = False) -> None:
        """Commits, and fetches the messages that came meanwhile."""
        written = await self._record.commit(steps, whole=whole)
        if written.wake > self._record.seen:
            key = self._record.snapshot.task.key
            self._unapplied, self._record.seen = await self._tools.unread(key)

    def _seconds_left(self) -> float:
        end = ends_at(self._record.snapshot, self._tools.options.limits)
        return (end - self._tools.now()).total_seconds()

    # The planner

    async def _ask(self, attempt: int) -> TaskStatus | None:
        async with under_way({"turn": self._turn()}) as works:
            turn = works["turn"]
            if not await self._comes_to_its_end(turn):
                return None
        try:
            said = turn.result()
        except ModelFailed as error:
            return await self._model_failed(error, attempt)
        except OverBudget as error:
            self._record.add(budget_spent(error))
            return None
        except NotNow as refused:
            self._park(self._tools.calls.parked_turn(refused))
            return None
        change = turn_change(said, self._record.snapshot.context)
        decided = self._record.next(decided_by(said), change=change)
        log.debug("decision", step=decided.seq, type=said.decision.type, tokens=said.usage.total)
        return await self._follow(said, decided)

    async def _turn(self) -> Turn:
        await self._tools.lease.held()
        limits, now = self._tools.options.limits, self._tools.now()
        turn = await self._tools.planner.plan(
            with_allowance(self._record.snapshot, limits=limits, now=now)
        )
        return replace(turn, decision=as_declared(turn.decision, await self._agents()))

    async def _comes_to_its_end(self, turn: "asyncio.Task[Turn]") -> bool:
        """False where something came first that the turn does not matter to any more.

        Of a turn that is cut nothing is known and nothing journaled: it can be asked for again.
        """
        while True:
            await self._bell.during([turn], seconds=self._seconds_left())
            if turn.done():
                return True
            if self._bell.is_rung:
                self._bell.quiet()
                await self._commit(())
                if any(m.event_type in (CANCEL, PAUSE) for m in self._unapplied):
                    return False
            if self._seconds_left() <= 0:
                return False

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
        retry, now = self._tools.options.model_retry, self._tools.now()
        body = model_failure(error, attempt, retry=retry, now=now)
        if isinstance(body, Failed):
            return await self._end(body)
        self._record.add(body)
        return None

    # Agents

    async def _agents(self) -> dict[AgentId, Agent]:
        tenant = self._record.snapshot.task.tenant
        return {agent.id: agent for agent in await self._tools.agents(tenant)}

    async def _make(self, due: Sequence[DueCall]) -> None:
        agents = await self._agents()
        works = {d.key: self._make_one(d, agents.get(d.call.agent)) for d in due}
        async with under_way(works) as calls:
            await self._attend(calls)
        if due[0].call.compensates is not None:
            await self._commit(())  # what undoes one effect is on disk before the next goes out

    async def _attend(self, calls: Mapping[tuple[Seq, int], "asyncio.Task[None]"]) -> None:
        """Until each call has its result, or the task is over without them."""
        while running := [call for call in calls.values() if not call.done()]:
            await self._bell.during(running, seconds=self._seconds_left())
            if self._bell.is_rung:
                async with self._reading:
                    await self._hear()
                for key in finished_calls(self._record.snapshot).intersection(calls):
                    calls[key].cancel()  # its answer came another way
                if is_over(self._next_move()):
                    return
            if self._seconds_left() <= 0:
                return
            raise_first(calls.values())
        raise_first(calls.values())

    async def _make_one(self, due: DueCall, agent: Agent | None) -> None:
        announce, was_sent = partial(self._announce, due, agent), self._sent.may_have(due)
        outcome = await self._tools.calls.make(
            due, self._record.snapshot, agent, announce=announce, was_sent=was_sent
        )
        if outcome is None:
            return
        if not outcome.was_sent and not was_sent:
            self._sent.did_not(due)
        if due.key in finished_calls(self._record.snapshot):
            # Its answer came another way while this one was on its way: the first one counts.
            if isinstance(outcome.body, CallFinished):
                self._record.add(came_second(outcome.body))
        elif isinstance(outcome.body, CallParked):
            self._park(replace(outcome.body, may_be_sent=self._sent.may_have(due)))
        else:
            self._record.add(outcome.body, change=outcome.change)

    async def _announce(self, due: DueCall, agent: Agent | None) -> bool:
        """Journals what must not go out twice, or what is known not to be sent; whether it may."""
        body = announced(due, agent)
        if body is not None:
            async with self._reading:
                if self._record.is_closed:
                    return False  # it was cut, and did not end
                await self._commit([self._record.next(body)])
            is_undo = due.call.compensates is not None
            if not is_undo and any(m.event_type == CANCEL for m in self._unapplied):
                self._bell.ring()
                return False
        self._sent.goes_out(due)
        return True

    def _park(self, body: CallParked) -> None:
        key = None if body.step is None or body.call is None else (body.step, body.call)
        self._parked[key] = body
        # A look that found nothing new leaves no second step that says the same.
        if not was_told(self._record.snapshot.steps, body):
            self._record.add(body, change=parked_change(self._record.snapshot, body))

    async def _abandon(self, left: Sequence[DueCall]) -> None:
        """Journals the calls that the task ends without; what is known not to be sent, as such."""
        agents = await self._agents()
        sent = [d for d in left if self._sent.may_have(d)]
        bodies = await asyncio.gather(
            *(
                self._tools.calls.abandon(d, self._record.snapshot, agents.get(d.call.agent))
                for d in sent
            )
        )
        for body in (*bodies, *(not_made(d) for d in left if d not in sent)):
            self._record.add(body)

    # Rests and ends

    async def _rest(self, sleep: Sleep) -> TaskStatus:
        steps: list[Step] = []
        body = Rested(waiting_for=sleep.waiting_for, until=sleep.until)
        history = self._record.snapshot.steps
        # A look that found nothing new leaves no second step that says the same, and what is parked
        # has said it already.
        if not sleep.parked_for and (not history or history[-1].body != body):
            change: JsonObject = {"current_state": f"waiting for {sleep.waiting_for}"}
            shown = None if sleep.is_paused or sleep.is_undoing else change
            steps.append(self._record.next(body, change=shown))
        rest = Rest(
            status=TaskStatus.WAITING,
            run_at=sleep.until,
            reason=rest_reason(sleep, state=self._record.snapshot.context.current_state),
            parked_for=sleep.parked_for,
        )
        written = await self._record.commit(steps, rest=rest)
        self._tools.rested(self._tools.now() if written.status.is_due else sleep.until)
        self._tools.parked([p.target for p in self._parked.values() if p.cause in OPENED_CAUSES])
        return written.status

    async def _end(
        self, body: Completed | Failed | Cancelled, *, first: Step | None = None
    ) -> TaskStatus | None:
        steps = [first] if first is not None else []
        undo = None if isinstance(body, Completed) else begun(self._record.snapshot, body)
        if undo is not None:
            steps.append(self._record.next(undo, change=COMPENSATING, ahead=len(steps) + 1))
            await self._compensate(steps)
            return None
        status, reason = ending(body)
        state = status.value if reason is None else f"{status.value}: {reason}"
        change: JsonObject = {"current_state": state}
        steps.append(self._record.next(body, change=change, ahead=len(steps) + 1))
        letter = letter_of(body, topic=self._tools.options.dead_letters)
        rest = Rest(status=status, reason=reason, letter=letter)
        written = await self._record.commit(steps, rest=rest)
        return written.status

    async def _compensate(self, steps: Sequence[Step]) -> None:
        """The end waits until what the task did is undone."""
        await self._record.commit(steps)
        # Messages behind the one that ended the task may hold results of calls to be undone.
        key = self._record.snapshot.task.key
        self._unapplied, self._record.seen = await self._tools.unread(key)

    async def _go_on_without(self, error: Poisoned) -> TaskStatus | None:
        """Past what can't be stored; answers the task's status where that ended it."""
        instead = in_place_of(error, self._record.before(error.seq))
        written = await self._record.commit_instead(
            error.seq, instead.body, change=instead.change, rest=instead.rest
        )
        return None if instead.rest is None else written.status
