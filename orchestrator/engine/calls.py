"""One call of a decision: whether it may go out, how, and what its outcome means in the journal."""

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

import orjson

from orchestrator.agents.agent import Caller, CallRequest
from orchestrator.domain.agent import Agent
from orchestrator.domain.call import CallResult, CallStatus
from orchestrator.domain.context import collected
from orchestrator.domain.json import JsonObject
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import AttemptFailed, CallFinished
from orchestrator.engine.lease import Lease
from orchestrator.engine.moves import DueCall
from orchestrator.engine.options import EngineOptions
from orchestrator.telemetry import metrics
from orchestrator.telemetry.logs import VERBOSE_LOGGER, get_logger

TELL_SECONDS = 0.5
"""How long an agent may take to hear that a call is cancelled: its task's end waits for it."""

log = get_logger(__name__)
verbose = get_logger(VERBOSE_LOGGER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What is to be journaled of one attempt."""

    body: CallFinished | AttemptFailed
    change: JsonObject | None = None


class Calls:
    """Makes calls for the runners; keeps nothing between them."""

    def __init__(
        self,
        *,
        caller: Caller,
        lease: Lease,
        options: EngineOptions,
        now: Callable[[], datetime],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._caller = caller
        self._lease = lease
        self._options = options
        self._now = now
        self._jitter = jitter

    async def make(self, due: DueCall, snapshot: Snapshot, agent: Agent | None) -> Outcome:
        """Makes the call, or asks what became of it where it can't be made twice."""
        if agent is None:
            return _finished(due, _error(f"there is no agent {due.call.agent!r} any more"))
        request = self._request(due, snapshot, agent)
        await self._lease.held()
        if agent.effects == "at_most_once" and due.was_started:
            return self._resolved(due, agent, await self._caller.status(request))
        result = await self._caller.call(request)
        _tell(due, result)
        if result.status is CallStatus.ERROR and result.retryable:
            if agent.effects == "at_most_once" and result.was_sent:
                return self._resolved(due, agent, await self._caller.status(request))
            return self._failed(due, result)
        return self._outcome(due, agent, result)

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
        )

    def _request(self, due: DueCall, snapshot: Snapshot, agent: Agent) -> CallRequest:
        timeout = agent.limits.timeout_seconds
        if snapshot.task.deadline is not None:
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
            traceparent=snapshot.task.traceparent,
        )

    def _outcome(self, due: DueCall, agent: Agent, result: CallResult) -> Outcome:
        if result.status is CallStatus.ACCEPTED:
            until = self._now() + self._options.async_result_timeout
            return _finished(due, result, until=until)
        return _finished(due, result, fields=agent.output_fields)

    def _failed(self, due: DueCall, result: CallResult) -> Outcome:
        retry_at = self._options.agent_retry.next_attempt_at(
            due.attempt,
            now=self._now(),
            retry_after_seconds=result.retry_after_seconds,
            random=self._jitter,
        )
        if retry_at is None:
            return _finished(due, result)
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

    def _resolved(self, due: DueCall, agent: Agent, known: CallResult | None) -> Outcome:
        """The outcome of a call that may have taken effect and must not be made again."""
        if known is not None and not (known.status is CallStatus.ERROR and known.retryable):
            return self._outcome(due, agent, known)
        said = "it does not know the call" if known is None else known.error or "it does not say"
        note = (
            f"a person: whether call {due.step}/{due.call.number} of agent {agent.id!r} took "
            f"effect is unknown ({said}); answer with an agent_result event, or cancel the task"
        )
        return _finished(due, CallResult(status=CallStatus.ACCEPTED, error=note))


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
    return CallResult(status=CallStatus.ERROR, error=text)


def _finished(
    due: DueCall,
    result: CallResult,
    *,
    fields: tuple[str, ...] = (),
    until: datetime | None = None,
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
            duration_ms=result.duration_ms,
            until=until,
        ),
        change={"collected_data": found} if found else None,
    )
