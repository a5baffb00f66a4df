"""`orchestrator demo`: sample tasks through the whole of `orchestrator dev`, shown as they go.

It knows how each task ought to end, looks in PostgreSQL and Kafka whether it did, and exits 0 only
then.
"""

import asyncio
import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path

import typer

from orchestrator.bus.letters import DeadLetterView, read_dead_letters
from orchestrator.bus.options import BusOptions
from orchestrator.bus.producer import Publisher
from orchestrator.cli.demo_report import (
    Ended,
    Progress,
    print_dead_letters,
    print_ended,
    print_queries,
)
from orchestrator.cli.demo_tasks import ASKING, MALFORMED, SAMPLES, read_messages, task_id
from orchestrator.cli.dev import Data, Stack, addresses_text, announced, local_stack
from orchestrator.cli.output import complain, note
from orchestrator.cli.session import DATA_DIR
from orchestrator.cli.signals import Stop
from orchestrator.cli.worker import options_of, run_loop, run_worker
from orchestrator.domain.task import TaskStatus
from orchestrator.local.demo import demo_folder
from orchestrator.store.database import Database
from orchestrator.store.history import TaskFilter, TaskRow, list_tasks, show_task, steps_of
from orchestrator.telemetry.logs import LogOptions, configure_logs

DEADLINE_SECONDS = 90.0
LOOK_SECONDS = 0.15

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def demo(*, data: Data = DATA_DIR) -> None:
    """Publish sample tasks, watch them, and print what came of each; exit 0 if all ended well."""
    raise typer.Exit(run_loop(_demo(data, os.environ)))


async def _demo(data_dir: Path, environ: Mapping[str, str]) -> int:
    with Stop().listening() as stop:
        try:
            async with local_stack(data_dir, environ, say=note) as stack:
                log = data_dir / "logs" / "worker.log"
                note(f"{addresses_text(stack)}\n  {'worker log':<12}  {log}")
                with log.open("a") as stream, announced(data_dir, stack):
                    configure_logs(LogOptions(format="console"), stream=stream)
                    return await _beside_worker(stack, stop)
        except asyncio.CancelledError:
            if not stop.is_asked:
                raise
            note("stopped before the tasks had ended")
            return 1


async def _beside_worker(stack: Stack, stop: Stop) -> int:
    """Runs the demo while a worker works; the worker's end before it is the demo's too."""
    ending = Stop()
    worker = asyncio.create_task(
        run_worker(options_of(stack.settings), stack.settings.health, stop=ending), name="worker"
    )
    show = asyncio.create_task(_show(stack), name="demo")
    stop.ends_gently(lambda: _cancel(show), within_seconds=10)
    try:
        await asyncio.wait([worker, show], return_when=asyncio.FIRST_COMPLETED)
        if not show.done():
            complain("the worker ended before the tasks had; its log says why")
            return 1
        return await show
    finally:
        show.cancel()
        ending.ask()
        await asyncio.gather(show, worker, return_exceptions=True)


def _cancel(task: asyncio.Task[int]) -> None:
    task.cancel()


async def _show(stack: Stack) -> int:
    run = secrets.token_hex(2)
    bus = stack.settings.bus
    database = Database(stack.settings.database)
    await database.open()
    try:
        async with Publisher(bus) as publisher:
            await _publish(publisher, bus, demo_folder() / "tasks.jsonl", run=run)
            await _watch(database, publisher, bus, run=run)
        ended = await _collect(database, run=run)
        letters = await _letters(bus, run=run)
    finally:
        await database.close()
    print_ended(ended)
    print_dead_letters(letters, topic=bus.topics.dead_letters)
    print_queries(task_id=task_id(SAMPLES[0].name, run=run))
    return _verdict(ended, letters)


async def _publish(publisher: Publisher, bus: BusOptions, path: Path, *, run: str) -> None:
    topics = {"tasks": bus.topics.tasks, "events": bus.topics.events}
    for message in read_messages(path, run=run):
        await publisher.publish(
            topics[message.topic], key=message.key.encode(), value=message.value
        )


async def _watch(database: Database, publisher: Publisher, bus: BusOptions, *, run: str) -> None:
    """Shows the tasks until each has ended, and answers the one that asks."""
    shows = {str(task_id(s.name, run=run)): s.shows for s in SAMPLES}
    deadline = time.monotonic() + DEADLINE_SECONDS
    is_answered = False
    with Progress(shows) as progress:
        while time.monotonic() < deadline:
            rows = await list_tasks(database, TaskFilter(text=f"-{run}", limit=len(SAMPLES)))
            progress.show(sorted(rows, key=lambda row: list(shows).index(row.task_id)))
            asks = any(_asks(r, run=run) for r in rows)
            if asks and not is_answered:
                await _publish(publisher, bus, demo_folder() / "answer.jsonl", run=run)
                is_answered = True
            if len(rows) == len(SAMPLES) and all(r.is_over for r in rows):
                return
            await asyncio.sleep(LOOK_SECONDS)


def _asks(row: TaskRow, *, run: str) -> bool:
    return row.task_id == task_id(ASKING, run=run) and row.status is TaskStatus.WAITING


async def _collect(database: Database, *, run: str) -> list[Ended]:
    ended = []
    for sample in SAMPLES:
        wanted = task_id(sample.name, run=run)
        details = await show_task(database, wanted)
        steps = await steps_of(database, wanted)
        problem = sample.expect(details, steps)
        ended.append(Ended(details=details, shows=sample.shows, steps=steps, problem=problem))
    return ended


async def _letters(bus: BusOptions, *, run: str) -> list[DeadLetterView]:
    """This run's dead letters; the relay may take a moment to bring the last one there."""
    key = str(task_id(MALFORMED, run=run)).encode()
    deadline = time.monotonic() + 10
    while True:
        found = [letter for letter in await read_dead_letters(bus) if letter.key == key]
        if found or time.monotonic() > deadline:
            return found
        await asyncio.sleep(LOOK_SECONDS)


def _verdict(ended: list[Ended], letters: list[DeadLetterView]) -> int:
    problems = [f"{e.details.row.task_id}: {e.problem}" for e in ended if e.problem]
    if [letter.reason for letter in letters] != ["invalid_json"]:
        reasons = ", ".join(letter.reason for letter in letters) or "none"
        problems.append(f"expected one dead letter invalid_json for {MALFORMED}; found {reasons}")
    note("")
    if problems:
        complain("\n".join(problems))
        return 1
    note(f"All {len(ended)} tasks and the malformed message ended as they should.")
    return 0
