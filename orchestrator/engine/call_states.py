"""How far the calls of a step have come, read from the steps that follow it (pure)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from orchestrator.domain.call import Call, CallStatus
from orchestrator.domain.ids import Seq
from orchestrator.domain.step import (
    AttemptFailed,
    CallFinished,
    CallParked,
    CallStarted,
    Forked,
    Retried,
    Step,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DueCall:
    """A call of the last decision that has no result yet and may go out now."""

    step: Seq
    call: Call
    attempt: int
    was_started: bool
    """It was journaled as begun: whether it took effect is unknown."""
    is_unsent: bool = False
    """The journal knows that it never went out."""
    is_late: bool = False
    """Its agent accepted it, and did not answer within the time that it may take."""
    asked_since: datetime | None = None
    """When the journal said that its outcome is unknown and that its agent is asked again."""

    @property
    def key(self) -> tuple[Seq, int]:
        return self.step, self.call.number


@dataclass(frozen=True, slots=True, kw_only=True)
class CallState:
    call: Call
    attempts: int = 0
    retry_at: datetime | None = None
    was_started: bool = False
    is_unsent: bool = False
    is_accepted: bool = False
    accepted_until: datetime | None = None
    ask_again_at: datetime | None = None
    asked_since: datetime | None = None
    parked: CallParked | None = None
    note: str = ""
    is_unknown: bool = False
    """It was abandoned: `unknown` stands in the journal as its result."""

    def due(self, seq: Seq) -> DueCall:
        attempt = max(1, self.attempts) if self.is_accepted else self.attempts + 1
        return DueCall(
            step=seq,
            call=self.call,
            attempt=attempt,
            was_started=self.was_started,
            is_unsent=self.is_unsent,
            is_late=self.is_accepted,
            asked_since=self.asked_since,
        )

    def is_due(self, now: datetime) -> bool:
        """Whether it may go out, or its agent is to be asked what became of it."""
        if self.is_accepted:
            return self.ask_at is not None and self.ask_at <= now
        return self.retry_at is None or self.retry_at <= now

    @property
    def ask_at(self) -> datetime | None:
        """When the agent of an accepted call is asked, where it may not go out again.

        Journals of earlier releases have only that it was announced: others are, too, after they
        were parked.
        """
        if not self.is_accepted or self.ask_again_at is not None:
            return self.ask_again_at
        is_once = self.was_started or self.call.effects == "at_most_once"
        return self.accepted_until if is_once else None

    @property
    def has_begun(self) -> bool:
        return self.is_accepted or self.was_started or self.attempts > 0


def call_states(seq: Seq, calls: Sequence[Call], after: Sequence[Step]) -> list[CallState]:
    """Those of step `seq`'s calls that have no final result, as the steps after it left them."""
    states = {call.number: CallState(call=call) for call in calls}
    for step in after:
        match step.body:
            case CallFinished(step=s, call=n, status=CallStatus.ACCEPTED) as body if (
                s == seq and n in states
            ):
                states[n] = _accepted(states[n], body, at=step.at)
            case CallFinished(step=s, call=n, status=CallStatus.UNKNOWN) if (
                s == seq and n in states
            ):
                states[n] = CallState(
                    call=states[n].call,
                    attempts=states[n].attempts,
                    was_started=True,
                    is_unknown=True,
                )
            case CallFinished(step=s, call=n) if s == seq:
                states.pop(n, None)
            case AttemptFailed(step=s, call=n) as body if s == seq and n in states:
                states[n] = CallState(
                    call=states[n].call, attempts=body.attempt, retry_at=body.retry_at
                )
            case CallStarted(step=s, call=n) as body if s == seq and n in states:
                before = states[n]
                # Earlier releases say only that it is announced: what must not go out twice, or
                # what was parked.
                told = body.effects or before.call.effects
                effects = told if told or before.is_unsent else "at_most_once"
                call = replace(before.call, effects=effects)
                states[n] = CallState(call=call, attempts=before.attempts, was_started=True)
            case CallParked(step=s, call=n) as body if s == seq and n in states:
                # Of what must not go out twice it is only journaled where it did not go out at all.
                states[n] = replace(states[n], was_started=False, is_unsent=not body.may_be_sent)
            case Retried():
                states = {
                    n: replace(s, attempts=0, retry_at=None, is_unknown=False)
                    for n, s in states.items()
                }
            case Forked():
                # What was sent was sent by the other task, under its keys: nothing is known here.
                states = {n: CallState(call=s.call) for n, s in states.items()}
            case _:
                pass
    return list(states.values())


def _accepted(before: CallState, body: CallFinished, *, at: datetime | None) -> CallState:
    """Its answer comes later, or its outcome is unknown."""
    # Only what must not go out twice is asked about.
    effects = before.call.effects if body.ask_at is None else "at_most_once"
    return CallState(
        call=replace(before.call, effects=effects),
        attempts=body.attempt,
        was_started=before.was_started,
        is_accepted=True,
        accepted_until=body.until,
        ask_again_at=body.ask_at,
        asked_since=(at or body.ask_at) if body.ask_at is not None else None,
        note=body.error or "",
    )


def look_at(state: CallState) -> datetime | None:
    if state.parked is not None:
        return state.parked.until
    return state.ask_at or state.accepted_until or state.retry_at


def waits_for(states: list[CallState]) -> str:
    # What is asked again in vain says it anew, with the last reason.
    notes = [s.note for s in states if s.note and s.parked is None]
    notes += sorted({s.parked.reason for s in states if s.parked is not None})
    if notes:
        return "; ".join(notes)
    accepted = [s.call.agent for s in states if s.is_accepted]
    if accepted:
        return f"a later answer of {', '.join(sorted(accepted))}"
    return f"another try of {', '.join(sorted(s.call.agent for s in states))}"
