"""What has to hold when the last fault is over and the last task has ended."""

from collections import Counter
from collections.abc import Iterable, Iterator

from orchestrator.domain.call import CallStatus
from orchestrator.domain.context import Context
from orchestrator.domain.event import CANCEL
from orchestrator.domain.ids import idempotency_key
from orchestrator.domain.step import (
    CallFinished,
    Cancelled,
    Completed,
    EventApplied,
    Failed,
    StepBody,
)
from orchestrator.domain.task import TaskStatus
from tests.model.tables import StepRow, Tables, TaskRow
from tests.simulation.member import Member, Scene

NOT_MADE = "it was not made: the task was over"
ENDS: dict[TaskStatus, type[StepBody]] = {
    TaskStatus.COMPLETED: Completed,
    TaskStatus.FAILED: Failed,
    TaskStatus.CANCELLED: Cancelled,
}


def violations(scene: Scene, members: Iterable[Member]) -> Iterator[str]:
    """All that is wrong with what was left behind."""
    tables = scene.world.tables
    yield from _lost(scene)
    for row in tables.tasks.values():
        yield from _wrong_journal(row, tables.journal(row.id))
        yield from _wrong_context(row, tables.journal(row.id))
        yield from _unapplied(row, tables)
    yield from _wrong_updates(tables)
    yield from _wrong_effects(scene)
    for member in members:
        yield from _left_in_memory(member)


def _lost(scene: Scene) -> Iterator[str]:
    tables = scene.world.tables
    for partition, messages in enumerate(scene.partitions):
        if tables.positions["tasks", partition] != len(messages):
            yield f"partition {partition} was not read to its end"
        for message in messages:
            if message.task_id not in tables.by_task_id:
                yield f"{message.task_id} is lost"


def _wrong_journal(row: TaskRow, journal: list[StepRow]) -> Iterator[str]:
    seqs = [int(r.step.seq) for r in journal]
    if seqs != list(range(1, row.seq + 1)):
        yield f"{row.task_id}: its steps are {seqs}, the task says {row.seq}"
    epochs = [r.epoch for r in journal]
    if epochs != sorted(epochs):
        yield f"{row.task_id}: the epochs of its steps fall: {epochs}"
    if row.owner is not None:
        yield f"{row.task_id} is {row.status} and owned by {row.owner}"
    if row.status in ENDS and not isinstance(journal[-1].body, ENDS[row.status]):
        yield f"{row.task_id} is {row.status}, its last step says {journal[-1].body.kind}"
    finished = Counter(
        (r.body.step, r.body.call)
        for r in journal
        if isinstance(r.body, CallFinished) and r.body.status.is_final
    )
    for (step, call), times in finished.items():
        if times > 1:
            yield f"{row.task_id}: call {step}/{call} has {times} results"


def _wrong_context(row: TaskRow, journal: list[StepRow]) -> Iterator[str]:
    context = Context()
    for r in journal:
        if r.step.seq <= row.context_seq:
            context = context.apply(r.step.change)
    if Context.from_json(row.context) != context:
        yield f"{row.task_id}: its context is not what its steps up to {row.context_seq} add up to"


def _unapplied(row: TaskRow, tables: Tables) -> Iterator[str]:
    """Each message became a step of its own, but for those that came after the end."""
    steps: dict[int, StepBody] = {r.step.seq: r.body for r in tables.journal(row.id)}
    inbox = tables.inbox.get(row.id, ())
    for seq, times in Counter(r.seq for r in inbox if r.seq is not None).items():
        if times > 1 or seq not in steps:
            yield f"{row.task_id}: {times} messages say that they are step {seq}"
    for message in inbox:
        body = steps.get(message.seq or 0)
        if isinstance(body, EventApplied) and body.event_type != message.event_type:
            yield f"{row.task_id}: message {message.id} is not what step {message.seq} says"
    kinds = [b.event_type for b in steps.values() if isinstance(b, EventApplied)]
    if CANCEL in kinds and row.status is not TaskStatus.CANCELLED:
        yield f"{row.task_id} was cancelled and is {row.status}"


def _wrong_updates(tables: Tables) -> Iterator[str]:
    """One row a step, each task's in the order of its steps."""
    told: dict[int, list[int]] = {}
    for update in tables.outbox:
        if update.task is not None and update.seq is not None:
            told.setdefault(update.task, []).append(update.seq)
    for row in tables.tasks.values():
        if told.get(row.id) != list(range(1, row.seq + 1)):
            yield f"{row.task_id}: its updates are {told.get(row.id)}, its steps {row.seq}"


def _wrong_effects(scene: Scene) -> Iterator[str]:
    agents, tables = scene.agents, scene.world.tables
    for key, times in agents.effects.items():
        if times > 1:
            yield f"{key} had {times} effects"
    for row in tables.tasks.values():
        for r in tables.journal(row.id):
            body = r.body
            if not isinstance(body, CallFinished):
                continue
            key = idempotency_key(row.task_id, step=body.step, call=body.call)
            is_success = body.status is CallStatus.SUCCESS and "by_person" not in body.output
            if is_success and key not in agents.effects:
                yield f"{key} is journaled as a success and never had an effect"
            if body.error == NOT_MADE and key in agents.sends:
                yield f"{key} is journaled as not made and was sent"


def _left_in_memory(member: Member) -> Iterator[str]:
    worker = member.worker
    if member.was_taken_over:
        return  # its process has ended
    if worker.running or worker._running.room != worker._options.concurrency:
        yield f"{member.name} has {worker.running} tasks in memory, nobody owns any"
    if worker._running.unsettled():
        yield f"{member.name} still wants to give back {worker._running.unsettled()}"
    if worker._journal.backlog:
        yield f"{member.name} has {worker._journal.backlog} entries that are not written"
    for complaint in member.process.complaints:
        yield f"{member.name}: {complaint}"
