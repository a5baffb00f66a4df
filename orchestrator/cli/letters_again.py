"""What the `dead-letters` commands do with PostgreSQL: counting replays, and sending again."""

from collections.abc import Sequence
from dataclasses import dataclass

import typer

from orchestrator.bus.letters import DeadLetterView
from orchestrator.bus.options import BusOptions, Topics
from orchestrator.bus.producer import Publisher
from orchestrator.bus.replay import counted, obstacle, paced, replay, resting
from orchestrator.cli.output import note
from orchestrator.cli.session import user, with_database
from orchestrator.domain.errors import NotAllowed, NotFound, OrchestratorError
from orchestrator.domain.ids import TaskId
from orchestrator.store import operations
from orchestrator.store.database import Database
from orchestrator.store.notices import Notice, notify
from orchestrator.telemetry.log_lines import printable


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Letters that were looked at before they are sent again."""

    sendable: Sequence[DeadLetterView]
    problems: Sequence[str]
    """Why the others can't be sent."""


def counts_told(letters: Sequence[DeadLetterView]) -> Sequence[DeadLetterView]:
    """The letters with their replays; as far as they say it themselves, without PostgreSQL."""
    if not letters:
        return letters
    try:
        return with_database(lambda database: counted(database, letters))
    except OrchestratorError as error:
        # Who looks for what went wrong must see the letters, all the more while it does.
        note(f"there may be more replays than shown: PostgreSQL counts them, and: {error}")
        return letters


def look(
    letters: Sequence[DeadLetterView], *, topics: Topics, force: bool, is_edited: bool
) -> Seen:
    """Which of the letters can be sent again now."""
    if not letters:
        return Seen(sendable=(), problems=())

    async def work(database: Database) -> Seen:
        seen = await counted(database, letters)
        rest = await resting(database, seen)
        problems = {
            letter.id: obstacle(letter, topics=topics, force=force, is_edited=is_edited)
            or rest.get(letter.id)
            for letter in seen
        }
        return Seen(
            sendable=[letter for letter in seen if problems[letter.id] is None],
            problems=[problem for problem in problems.values() if problem is not None],
        )

    return with_database(work)


def send_all(
    options: BusOptions,
    letters: Sequence[DeadLetterView],
    *,
    force: bool,
    value: bytes | None,
    rate: float | None,
    tell: bool,
) -> tuple[list[str], list[str]]:
    """The ids of those that were sent, and why others were not.

    Told one by one, so that whoever is interrupted knows how far it came.
    """
    sent: list[str] = []
    errors: list[str] = []

    def done(letter: DeadLetterView, what: str) -> None:
        sent.append(letter.id)
        if tell:
            typer.echo(printable(f"{letter.id}: {what}"))

    messages = [letter for letter in letters if not letter.is_of_task]
    tasks = [letter for letter in letters if letter.is_of_task]

    async def publish(database: Database) -> None:
        async with Publisher(options) as publisher:
            async for letter in replay(
                publisher, database, messages, force=force, value=value, per_second=rate
            ):
                done(letter, f"sent to {letter.topic} again")

    async def retry(database: Database) -> None:
        who = user()
        async for letter in paced(tasks, per_second=rate, start=1 if messages else 0):
            try:
                task_id, reason = TaskId(letter.task_id or ""), f"dead letter {letter.id}"
                await operations.retry(database, task_id, by=who, reason=reason)
            except (NotAllowed, NotFound) as error:
                errors.append(f"{letter.id}: left as it is: {error}")
                continue
            # At a pace the last may be hours away: nobody waits for it, nor after an interruption.
            await notify(database, Notice.RUNNABLE, Notice.OUTBOX)
            done(letter, f"task {letter.task_id} goes back to work")

    if messages:
        with_database(publish)
    if tasks:
        with_database(retry)
    return sent, errors
