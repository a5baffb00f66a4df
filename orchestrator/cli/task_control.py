"""`orchestrator tasks cancel|pause|resume|top-up|give|resolve`: what people tell unfinished tasks.

Named tasks are told at once; those that a filter finds are counted first, and the count confirmed.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Annotated

import typer

from orchestrator.cli.moments import moment
from orchestrator.cli.output import AsJson, complain, confirm, console, note, print_json
from orchestrator.cli.session import cleaned, json_argument, user, with_database
from orchestrator.domain.budget import MAX_COST
from orchestrator.domain.errors import InvalidMessage, NotAllowed
from orchestrator.domain.event import AGENT_RESULT, CANCEL, GIVEN, PAUSE, RESUME, TOP_UP
from orchestrator.domain.ids import Seq, TaskId
from orchestrator.domain.json import JsonObject
from orchestrator.domain.task import TaskStatus
from orchestrator.store import control
from orchestrator.store.control import Count, Message, Selection, Told
from orchestrator.store.database import Database
from orchestrator.store.history import find_task, no_such_task
from orchestrator.store.notices import Notice, notify
from orchestrator.store.open_calls import OpenCall, open_calls

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID...", help="The tasks' ids.")]
Filters = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        metavar="NAME=VALUE,…",
        help="Instead of ids: status=waiting, tenant=acme, agent=crm, older=2h, text=invoice.",
    ),
]
Reason = Annotated[str, typer.Option(help="Why: kept in the journal.", callback=cleaned)]
By = Annotated[
    str | None,
    typer.Option(help="Who: kept in the journal. [default: the user]", callback=cleaned),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before many are told.")]

DOING = {
    CANCEL: "cancelling",
    PAUSE: "pausing",
    RESUME: "resuming",
    TOP_UP: "topping up",
    GIVEN: "giving data to",
}
SO_ALREADY = {PAUSE: "was paused already", RESUME: "was not paused"}
"""Why a task is told nothing: it would change nothing."""


def _verb(event_type: str, meaning: str) -> Callable[..., None]:
    """A command that tells tasks this, and nothing more."""

    def command(
        ids: Ids = None,
        *,
        filters: Filters = None,
        reason: Reason = "",
        by: By = None,
        yes: Yes = False,
        as_json: AsJson = False,
    ) -> None:
        _command(event_type, selection(ids, filters), _said(by, reason), yes=yes, as_json=as_json)

    command.__doc__ = meaning
    return command


cancel = _verb(CANCEL, "End tasks that are not over, within a second, also during a call.")
pause = _verb(PAUSE, "Let tasks rest until they are resumed; calls under way come to their end.")
resume = _verb(RESUME, "Let paused tasks go on where they were.")


def top_up(  # noqa: PLR0913 # sizes: each is an option of the command line
    ids: Ids = None,
    *,
    filters: Filters = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="Of the model.")] = None,
    cost: Annotated[float | None, typer.Option(min=0, max=MAX_COST, help="Money.")] = None,
    steps: Annotated[int | None, typer.Option(min=1)] = None,
    attempts: Annotated[int | None, typer.Option(min=1, help="Failed tries.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0, max=MAX_COST, help="Wall time.")] = None,
    reason: Reason = "",
    by: By = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Add to tasks' budgets; those that wait for it go on. No deadline moves."""
    given: JsonObject = {"tokens": tokens, "cost": cost, "steps": steps}
    given |= {"attempts": attempts, "seconds": seconds}
    more: JsonObject = {name: value for name, value in given.items() if value}
    if not more:
        raise typer.BadParameter(
            "give one or more of --tokens, --cost, --steps, --attempts, --seconds"
        )
    payload: JsonObject = {"budget": more, **_said(by, reason)}
    _command(TOP_UP, selection(ids, filters), payload, yes=yes, as_json=as_json)


def give(  # noqa: PLR0913 # sizes: each is an option of the command line
    ids: Ids = None,
    *,
    filters: Filters = None,
    given: Annotated[
        str,
        typer.Option("--set", metavar="JSON", help='The data, such as \'{"approval": "yes"}\'.'),
    ],
    reason: Reason = "",
    by: By = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Give tasks data, as an event does; only this provides fields that are from a person."""
    data = object_of(given, option="--set")
    payload: JsonObject = {"data": data, **_said(by, reason)}
    _command(GIVEN, selection(ids, filters), payload, yes=yes, as_json=as_json)


def resolve(  # noqa: PLR0913 # sizes: each is an option of the command line
    task_id: Annotated[str, typer.Argument(metavar="ID", help="The task's id.")],
    *,
    step: Annotated[int, typer.Option(min=1, help="The decision's number.")],
    call: Annotated[
        int | None, typer.Option(min=1, help="Which of its calls; not needed if one is open.")
    ] = None,
    success: Annotated[
        str | None, typer.Option(metavar="JSON", help="It was done: its output, {} without any.")
    ] = None,
    failed: Annotated[str | None, typer.Option(metavar="REASON", help="It was not done.")] = None,
    reason: Reason = "",
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Say what became of a call whose outcome nobody knows; the task goes on with it."""
    answer = {**_answer(success, failed), **_said(by, reason)}

    async def work(database: Database) -> OpenCall:
        found = _meant(await open_calls(database, TaskId(task_id)), step=step, call=call)
        if isinstance(found, str):
            await find_task(database, TaskId(task_id))
            raise NotAllowed(f"task {task_id!r}: {found}")
        message = Message(event_type=AGENT_RESULT, payload=answer, step=found.step, call=found.call)
        await control.tell(database, message, Selection(task_ids=(TaskId(task_id),)))
        await notify(database, Notice.RUNNABLE, Notice.CONTROL)
        return found

    found = with_database(work)
    if as_json:
        print_json({"task_id": task_id, "doing": "resolving", "call": found})
    else:
        console().print(f"resolving call {found.step}/{found.call} of agent {found.agent}")


def selection(ids: Sequence[str] | None, filters: Sequence[str] | None) -> Selection:
    """What the command line means; raises `BadParameter` where it can't be understood."""
    if bool(ids) == bool(filters):
        raise typer.BadParameter("give the tasks' ids, or --filter", param_hint="ID...")
    if ids:
        return Selection(task_ids=tuple(dict.fromkeys(TaskId(task_id) for task_id in ids)))
    found = Selection(statuses=control.UNFINISHED)
    for name, values in _words(filters or ()).items():
        if name == "status":
            found = replace(found, statuses=tuple(_unfinished(value) for value in values))
        elif len(values) == 1:
            found = _narrowed(found, name, values[0])
        else:
            raise typer.BadParameter(
                f"{name}= is given {len(values)} times; only status= may be given more than once",
                param_hint="--filter",
            )
    return found


def _words(filters: Sequence[str]) -> dict[str, list[str]]:
    """The values of each word, in the order given."""
    given: dict[str, list[str]] = {}
    for clause in (c for text in filters for c in text.split(",")):
        name, equals, value = clause.partition("=")
        if not equals or not value:
            raise _bad_filter(clause)
        given.setdefault(name.strip(), []).append(value.strip())
    return given


def _unfinished(value: str) -> TaskStatus:
    if value not in control.UNFINISHED:
        words = ", ".join(control.UNFINISHED)
        raise typer.BadParameter(
            f"status {value!r}: only tasks that are not over can be told anything: {words}",
            param_hint="--filter",
        )
    return TaskStatus(value)


def _narrowed(found: Selection, name: str, value: str) -> Selection:
    match name:
        case "tenant":
            return replace(found, tenant=value)
        case "agent":
            return replace(found, agent=value)
        case "older":
            return replace(found, older_than=moment(value, option="--filter"))
        case "text":
            return replace(found, text=value)
        case _:
            raise _bad_filter(name)


def _bad_filter(text: str) -> typer.BadParameter:
    return typer.BadParameter(
        f"{text!r} is no filter; known are status=, tenant=, agent=, older=, text=",
        param_hint="--filter",
    )


def _said(by: str | None, reason: str) -> JsonObject:
    who = user() if by is None else by
    return {name: text for name, text in (("reason", reason), ("by", who)) if text}


def _answer(success: str | None, failed: str | None) -> JsonObject:
    if (success is None) == (failed is None):
        raise typer.BadParameter("give --success or --failed", param_hint="--success")
    if success is None:
        if not (failed or "").strip():
            raise typer.BadParameter("say why it was not done", param_hint="--failed")
        return {"status": "error", "error_message": failed}
    return {"status": "success", "output": object_of(success, option="--success")}


def object_of(text: str, *, option: str) -> JsonObject:
    """The JSON object that an option holds; raises `BadParameter` where a message may not."""
    try:
        return json_argument(text)
    except InvalidMessage as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def _meant(found: Sequence[OpenCall], *, step: int, call: int | None) -> OpenCall | str:
    """The call, or why there is none."""
    of_step = [c for c in found if c.step == Seq(step) and call in (None, c.call)]
    if len(of_step) == 1:
        return of_step[0]
    which = ", ".join(f"{c.step}/{c.call} of {c.agent}" for c in found)
    if not of_step:
        number = f"{step}" if call is None else f"{step}/{call}"
        return f"no call {number} is open; open are: {which or 'none'}"
    return f"several calls of step {step} are open, say which with --call: {which}"


def _command(
    event_type: str, meant: Selection, payload: JsonObject, *, yes: bool, as_json: bool
) -> None:
    counted = None
    if meant.task_ids is None:
        counted = with_database(lambda database: control.count(database, meant))
        if counted.tasks and not yes:
            tasks = _tasks(counted.tasks)
            found = f"{tasks} {'matches' if counted.tasks == 1 else 'match'}"
            confirm(f"{DOING[event_type]} {tasks}?", found=found, option="--filter")
    message = Message(event_type=event_type, payload=payload)
    told = with_database(lambda database: _tell(database, message, meant, counted))
    _show(event_type, told, meant, as_json=as_json)


async def _tell(
    database: Database, message: Message, meant: Selection, counted: Count | None
) -> list[Told]:
    if counted is not None and counted.tasks == 0:
        return []
    upto = None if counted is None else counted.last
    told = await control.tell(database, message, meant, upto=upto)
    await notify(database, Notice.RUNNABLE, Notice.CONTROL)
    return told


def _show(event_type: str, told: Sequence[Told], meant: Selection, *, as_json: bool) -> None:
    doing = DOING[event_type]
    done = [one for one in told if one.is_told]
    over = [one for one in told if one.was not in control.UNFINISHED]
    skipped = [one for one in told if not one.is_told and one.was in control.UNFINISHED]
    errors = [
        *(f"task {one.task_id!r} is {one.was}: it is over already" for one in over),
        *(str(no_such_task(task_id)) for task_id in control.missing(told, meant)),
    ]
    if as_json:
        print_json(
            {
                "doing": doing,
                "tasks": [{"task_id": one.task_id, "was": one.was} for one in done],
                "skipped": [
                    {"task_id": one.task_id, "why": SO_ALREADY[event_type]} for one in skipped
                ],
                "errors": errors,
            }
        )
    elif meant.task_ids is not None:
        for one in done:
            console().print(_done_line(doing, one))
        for one in skipped:
            console().print(f"task {one.task_id} {SO_ALREADY[event_type]}")
    else:
        note("; ".join(_counts(event_type, done, skipped)))
    complain("\n".join(errors))
    if errors:
        raise typer.Exit(1)


def _done_line(doing: str, one: Told) -> str:
    if one.was is TaskStatus.EXPECTED:
        return f"{doing} task {one.task_id} once it comes (only events have come for it so far)"
    return f"{doing} task {one.task_id} (it was {one.was})"


def _counts(event_type: str, done: Sequence[Told], skipped: Sequence[Told]) -> Iterator[str]:
    yield f"{DOING[event_type]} {_tasks(len(done))}"
    expected = sum(one.was is TaskStatus.EXPECTED for one in done)
    if expected:
        yield f"of {_tasks(expected)} only events have come: as soon as the task itself comes"
    if skipped:
        yield f"skipped {_tasks(len(skipped))} that {SO_ALREADY[event_type]}"


def _tasks(number: int) -> str:
    return "1 task" if number == 1 else f"{number} tasks"
