"""`orchestrator outbox`: messages that Kafka refused, and sending them again."""

from typing import Annotated

import typer

from orchestrator.cli.output import AsJson, console, note, print_json, table, time_text
from orchestrator.cli.session import with_database
from orchestrator.store import outbox
from orchestrator.store.database import Database
from orchestrator.store.notices import Notice, notify

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _outbox() -> None:
    """List and send again messages that Kafka refused."""


@app.command("list")
def list_(*, as_json: AsJson = False) -> None:
    """Show the messages that Kafka refused, by topic and reason."""
    found = with_database(outbox.refused)
    if as_json:
        print_json(
            [
                {
                    "topic": each.topic,
                    "messages": each.rows,
                    "since": each.since.isoformat(),
                    "reason": each.reason,
                }
                for each in found
            ]
        )
    elif found:
        rows = [(e.topic, str(e.rows), time_text(e.since), e.reason) for e in found]
        console().print(table(("TOPIC", "MESSAGES", "SINCE", "REASON"), rows))
    else:
        note("Kafka refused no message")


@app.command()
def retry(
    *,
    topic: Annotated[str | None, typer.Option(help="Only what this topic refused.")] = None,
    as_json: AsJson = False,
) -> None:
    """Send the refused messages again, in their order. What is refused again is kept again."""

    async def work(database: Database) -> int:
        count = await outbox.send_again(database, topic=topic)
        if count:
            await notify(database, Notice.OUTBOX)
        return count

    count = with_database(work)
    if as_json:
        print_json({"messages": count})
    else:
        note(f"{count} messages are sent again by the running workers")
