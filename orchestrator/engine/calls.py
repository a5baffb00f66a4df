"""One call of a decision: whether it may go out, how, and what its outcome means in the journal."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import orjson

from orchestrator.agents.agent import Caller, CallRequest
from orchestrator.agents.target import Entry, Target
from orchestrator.agents.targets import Targets
from orchestrator.domain.agent import Agent
from orchestrator.domain.budget import MICROS
from orchestrator.domain.call import CallResult, CallStatus
from orchestrator.domain.context import collected
from orchestrator.domain.errors import NotNow
from orchestrator.domain.fault import Fault
from orchestrator.domain.json import JsonObject
from orchestrator.domain.retry import clamped, half_jitter
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import AttemptFailed, CallFinished, CallParked
from orchestrator.engine.call_states import DueCall
from orchestrator.engine.facts import gave_up, is_once, no_agent
from orchestrator.engine.lease import Lease
from orchestrator.engine.options import EngineOptions
from orchestrator.engine.parked import UNANSWERED
from orchestrator.planners.gated import LEASE_SECONDS
from orchestrator.telemetry import metrics
from orchestrator.telemetry.logs import VERBOSE_LOGGER, get_logger

TELL_SECONDS = 0.5
"""How long an agent may take to hear that a call is cancelled: its task's end waits for it."""

ASK_AGAIN_SECONDS = 300.0
"""The longest pause between two questions what became of a call."""

log = get_logger(__name__)
verbose = get_logger(VERBOSE_LOGGER)

NOBODYS_FAULT = (Fault.UNAVAILABLE, Fault.LIMITED)
"""Whatever was asked for, it would not have been answered; other faults may be the input's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What is to be journaled of one attempt."""

    body: CallFinished | AttemptFailed | CallParked
    change: JsonObject | None = None
    was_sent: bool = True
    """False where it surely did not go out, though it was announced."""


class Calls:
    """Makes calls for the runners; keeps nothing between them."""

    def __init__(
        self,
        *,
        caller: Caller,
        targets: Targets,
        lease: Lease,
        options: EngineOptions,
        now: Callable[[], datetime],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._caller = caller
        self._targets = targets
        self._lease = lease
        self._options = options
        self._now = now
        self._jitter = jitter

    async def make(
        self,
        due: DueCall,
        snapshot: Snapshot,
        agent: Agent | None,
        *,
        announce: Callable[[], Awaitable[bool]],
        was_sent: bool = False,
    ) -> Outcome | None:
        """Makes the call, or asks what became of it where it can't be made twice.

        `announce` is told directly before it goes out, and says whether it still may; None where
        it may not. `was_sent`: an earlier try may have gone out, and have had its effect whatever
        becomes of this one.
        """
        may_have_acted = (due.was_started or due.is_late) and is_once(due.call, agent)
        if due.is_late and not may_have_acted:
            return Outcome(body=gave_up(due.step, due.call))
        if agent is None:
            gone = no_agent(due.call.agent)
            if may_have_acted:
                return _unknown(due, gone)
            return _finished(due, _error(gone), is_unsure=was_sent)
        await self._lease.held()
        if may_have_acted:
            return await self._ask_after(due, snapshot, agent)
        return await self._send(due, snapshot, agent, announce, was_sent=was_sent)

    async def _send(
        self,
        due: DueCall,
        snapshot: Snapshot,
        agent: Agent,
        announce: Callable[[], Awaitable[bool]],
        *,
        was_sent: bool,
    ) -> Outcome | None:
        target = self._targets.agent(agent)
        try:
            async with target.entered(is_retry=due.attempt > 1) as entry:
                if not await announce():
                    return None
                # Made here, for the deadline in it: until now the call may have waited.
                result = await self._caller.call(self._request(due, snapshot, agent))
                _report(entry, result)
        except NotNow as refused:
            return self._parked(due, refused)
        _tell(due, result)
        if result.status is not CallStatus.ERROR:
            return self._outcome(due, snapshot, agent, result)
        is_open = result.retryable or result.is_unsure
        if is_open and is_once(due.call, agent) and result.was_sent:
            return await self._ask_after(due, snapshot, agent)
        if not result.retryable:
            return _finished(due, result, is_unsure=result.is_unsure or was_sent)
        return self._later(due, result, target, was_sent=was_sent)

    async def _ask_after(self, due: DueCall, snapshot: Snapshot, agent: Agent) -> Outcome:
        while True:
            await self._lease.held()
            known = await self._caller.status(self._request(due, snapshot, agent))
            # Where the lease was lost again on the way, nobody was asked: that is no answer.
            if known is None or known.was_sent or known.fault is not None:
                return self._resolved(due, snapshot, agent, known)

    async def abandon(self, due: DueCall, snapshot: Snapshot, agent: Agent | None) -> CallFinished:
        """The call ends without a result; an agent that wants to be told so is told, once."""
        is_told = False
        if agent is not None and agent.cancel_url is not None and self._lease.is_held():
            request = replace(self._request(due, snapshot, agent), timeout_seconds=TELL_SECONDS)
            try:
                async with asyncio.timeout(TELL_SECONDS):
                    is_told = await self._caller.cancel(request)
            except TimeoutError:
                is_told = False
        return CallFinished(
            step=due.step,
            call=due.call.number,
            agent=due.call.agent,
            status=CallStatus.UNKNOWN,
            error="the task ended before its answer: it may have had its effect"
            + ("; the agent was told" if is_told else ""),
            attempt=due.attempt,
            cost_micros=due.call.cost_micros,
        )

    def _later(
        self, due: DueCall, result: CallResult, target: Target, *, was_sent: bool
    ) -> Outcome:
        """A try that failed; where nobody could have answered it, none is spent."""
        refused = _held_back(result, target)
        if refused is None and result.fault in NOBODYS_FAULT and target.holds_back:
            refused = target.not_now()
        if refused is not None:
            outcome = self._parked(due, refused)
        else:
            outcome = self._failed(due, result, is_unsure=result.was_sent or was_sent)
        return replace(outcome, was_sent=result.was_sent)

    def _parked(self, due: DueCall, refused: NotNow) -> Outcome:
        body = replace(
            self.parked_turn(refused), step=due.step, call=due.call.number, agent=due.call.agent
        )
        return Outcome(body=body)

    def parked_turn(self, refused: NotNow) -> CallParked:
        """What is journaled of a turn that the model can't be asked for now."""
        return CallParked(
            target=refused.target,
            cause=refused.cause,
            reason=str(refused),
            until=self._now() + timedelta(seconds=refused.seconds),
        )

    def _request(self, due: DueCall, snapshot: Snapshot, agent: Agent) -> CallRequest:
        own = timeout = agent.limits.timeout_seconds
        if snapshot.task.deadline is not None and due.call.compensates is None:
            left = (snapshot.task.deadline - self._now()).total_seconds()
            timeout = max(0.001, min(timeout, left))
        return CallRequest(
            agent=agent,
            task_id=snapshot.task.task_id,
            step=due.step,
            call=due.call.number,
            input=due.call.input,
            epoch=snapshot.epoch,
            timeout_seconds=timeout,
            is_cut_short=timeout < own,
            traceparent=snapshot.task.traceparent,
            compensates=due.call.compensates,
        )

    def _outcome(
        self, due: DueCall, snapshot: Snapshot, agent: Agent, result: CallResult
    ) -> Outcome:
        if result.status is CallStatus.ACCEPTED:
            until = self._now() + self._options.async_result_timeout
            return _finished(due, result, until=until)
        # What undoes an effect collects nothing.
        fields = () if due.call.compensates else agent.output_fields
        return _finished(due, result, fields=snapshot.context.open_to("agent", fields))

    def _failed(self, due: DueCall, result: CallResult, *, is_unsure: bool) -> Outcome:
        retry_at = self._options.agent_retry.next_attempt_at(
            due.attempt,
            now=self._now(),
            retry_after_seconds=result.retry_after_seconds,
            is_limited=result.fault is Fault.LIMITED,
            random=self._jitter,
        )
        if retry_at is None:
            return _finished(due, result, is_unsure=is_unsure)
        return Outcome(
            body=AttemptFailed(
                step=due.step,
                call=due.call.number,
                agent=due.call.agent,
                attempt=due.attempt,
                error=result.error or "no reason given",
                retry_at=retry_at,
                duration_ms=result.duration_ms,
            )
        )

    def _resolved(
        self, due: DueCall, snapshot: Snapshot, agent: Agent, known: CallResult | None
    ) -> Outcome:
        """The outcome of a call that may have taken effect and must not be made again."""
        if known is None:
            return _unknown(due, "it does not know the call")
        if known.status is not CallStatus.ERROR or not (known.retryable or known.is_unsure):
            return self._outcome(due, snapshot, agent, known)
        if not known.retryable:
            return _unknown(due, known.error or "it does not say")
        return self._asked_again(due, agent, known)

    def _asked_again(self, due: DueCall, agent: Agent, known: CallResult) -> Outcome:
        """It may say it later. However often it is asked, the journal has it once.

        The pauses grow with the time that it was asked in vain, which needs no count of them.
        """
        now, wish = self._now(), known.retry_after_seconds
        vain = 0.0 if due.asked_since is None else (now - due.asked_since).total_seconds()
        longest = min(max(vain, self._options.agent_retry.base_seconds), ASK_AGAIN_SECONDS)
        seconds = max(half_jitter(longest, self._jitter), 0.0 if wish is None else clamped(wish))
        again = now + timedelta(seconds=seconds)
        outcome = _unknown(due, known.error or "it does not say", ask_at=again)
        if due.asked_since is None:
            return outcome
        assert isinstance(outcome.body, CallFinished)
        return Outcome(
            body=CallParked(
                step=due.step,
                call=due.call.number,
                agent=due.call.agent,
                # Nobody's: no breaker that closes is a reason to ask before its time.
                target=f"status/{agent.id}",
                cause=UNANSWERED,
                reason=outcome.body.error or "",
                until=again,
            )
        )


def _unknown(due: DueCall, why: str, *, ask_at: datetime | None = None) -> Outcome:
    """It may have taken effect, must not be made again, and a person has to tell.

    `ask_at`: unless its agent does, which is asked again from then on.
    """
    note = (
        f"a person: whether call {due.step}/{due.call.number} of agent {due.call.agent!r} took "
        f"effect is unknown ({why}); answer with `orchestrator tasks resolve` or an "
        "agent_result event, or cancel the task"
        f"{'; its agent is asked again meanwhile' if ask_at else ''}"
    )
    return _finished(due, CallResult(status=CallStatus.ACCEPTED, error=note), ask_at=ask_at)


def _report(entry: Entry, result: CallResult) -> None:
    """Tells the breaker, unless the result says nothing about the agent.

    That is so where nothing was sent, and where the task's own deadline cut the agent's time: tasks
    in a hurry would keep a healthy agent from everyone.
    """
    if result.is_cut_short or not (result.was_sent or result.fault is not None):
        return
    entry.report(result.fault, error=result.error, wish_seconds=result.retry_after_seconds)


def _held_back(result: CallResult, target: Target) -> NotNow | None:
    """Why it was not sent, where that was our own doing: the lease was lost meanwhile.

    Nobody failed, so no try is spent, and coming back is none of the agent's second tries: after an
    outage of PostgreSQL hundreds come back at once.
    """
    if result.was_sent or result.fault is not None:
        return None
    why = result.error or "not sent"
    return NotNow(why, target=target.name, cause="lease", seconds=LEASE_SECONDS)


def _tell(due: DueCall, result: CallResult) -> None:
    metrics.TOOL_SECONDS.labels(due.call.agent, result.status).observe(result.duration_ms / 1000)
    told = {
        "step": due.step,
        "call": due.call.number,
        "agent": due.call.agent,
        "attempt": due.attempt,
        "status": result.status.value,
        "duration_ms": result.duration_ms,
    }
    log.debug("agent answered", **told)
    if logging.getLogger(VERBOSE_LOGGER).isEnabledFor(logging.INFO):
        answer = result.error or _text(result.output)
        verbose.info("agent call", **told, block=f"input  {_text(due.call.input)}\nanswer {answer}")


def _text(value: JsonObject) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return repr(value)  # the journal refuses it, the log shows it


def _error(text: str) -> CallResult:
    return CallResult(status=CallStatus.ERROR, error=text, was_sent=False)


def _cost(due: DueCall, result: CallResult) -> int:
    if result.status is CallStatus.ACCEPTED or (not result.was_sent and due.attempt == 1):
        return 0
    cost_micros = due.call.charged(result.usage)
    metrics.AGENT_COST.labels(due.call.agent).inc(cost_micros / MICROS)
    return cost_micros


def _finished(
    due: DueCall,
    result: CallResult,
    *,
    fields: tuple[str, ...] = (),
    until: datetime | None = None,
    ask_at: datetime | None = None,
    is_unsure: bool = False,
) -> Outcome:
    found = collected(fields, result.output) if result.status is CallStatus.SUCCESS else {}
    return Outcome(
        body=CallFinished(
            step=due.step,
            call=due.call.number,
            agent=due.call.agent,
            status=result.status,
            output=result.output,
            error=result.error,
            attempt=due.attempt,
            usage=result.usage,
            cost_micros=_cost(due, result),
            duration_ms=result.duration_ms,
            is_unsure=is_unsure,
            until=until,
            ask_at=ask_at,
        ),
        change={"collected_data": found} if found else None,
    )
