"""What a journal goes on with in the place of a step that PostgreSQL refused (pure)."""

from dataclasses import dataclass

from orchestrator.domain.call import CallStatus
from orchestrator.domain.json import JsonObject
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import CallFinished, Failed, StepBody
from orchestrator.engine.call_states import CallState
from orchestrator.engine.compensation import COMPENSATING, Undoing, begun, undoing
from orchestrator.engine.facts import ending
from orchestrator.engine.journal import Poisoned
from orchestrator.store.journal import Rest

MAX_REASON_CHARACTERS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Instead:
    """A step, and the task's end where it is one."""

    body: StepBody
    change: JsonObject | None = None
    rest: Rest | None = None


def in_place_of(error: Poisoned, kept: Snapshot) -> Instead:
    """The task fails, once its effects are undone; `kept` is its journal before the step."""
    failed = Failed(code=error.code, reason=str(error)[:MAX_REASON_CHARACTERS])
    undo, undone = begun(kept, failed, has_lost=True), undoing(kept)
    if undo is not None:
        return Instead(body=undo, change=COMPENSATING)
    if undone is not None and undone.state is not None:
        # One answer less must not leave the other effects as they are. It ends its own call, so
        # what can't be stored comes up once for each.
        return Instead(body=_lost(undone, undone.state, error))
    body = failed if undone is None else undone.outcome
    status, reason = ending(body)
    change: JsonObject = {"current_state": "failed: a value can't be stored"}
    return Instead(body=body, change=change, rest=Rest(status=status, reason=reason))


def _lost(undone: Undoing, state: CallState, error: Poisoned) -> CallFinished:
    return CallFinished(
        step=undone.seq,
        call=state.call.number,
        agent=state.call.agent,
        status=CallStatus.ERROR,
        error=f"its answer can't be stored: {error}"[:MAX_REASON_CHARACTERS],
        attempt=state.due(undone.seq).attempt,
        cost_micros=state.call.cost_micros,
        is_unsure=True,
    )
