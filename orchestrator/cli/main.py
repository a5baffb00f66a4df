"""The `orchestrator` command: its subcommands, loaded only when one is called, and its exit codes.

0: done. 1: it failed, or what was asked for is not there. 2: the command line or a setting is
wrong.
"""

import importlib
import sys
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from orchestrator.cli.output import complain
from orchestrator.domain.errors import InvalidSettings, OrchestratorError


@dataclass(frozen=True, slots=True, kw_only=True)
class Subcommand:
    """Where a command is, and its help: it is shown without loading the module."""

    module: str
    """Has a `typer.Typer` named `app`."""
    help: str


SUBCOMMANDS = {
    "dev": Subcommand(
        module="orchestrator.cli.dev",
        help="Run it all here: Kafka, PostgreSQL, agents, a worker.",
    ),
    "demo": Subcommand(
        module="orchestrator.cli.demo",
        help="Run sample tasks through it, and show what comes of them.",
    ),
    "worker": Subcommand(
        module="orchestrator.cli.worker", help="Run a worker: read messages, run tasks."
    ),
    "publish": Subcommand(
        module="orchestrator.cli.publish", help="Send tasks and events to Kafka."
    ),
    "tasks": Subcommand(
        module="orchestrator.cli.tasks", help="List, show, watch, cancel and retry tasks."
    ),
    "agents": Subcommand(
        module="orchestrator.cli.agents",
        help="Add, list, show, pause, resume, remove and check agents.",
    ),
    "models": Subcommand(
        module="orchestrator.cli.models", help="Show, pause and resume the model."
    ),
    "dead-letters": Subcommand(
        module="orchestrator.cli.dead_letters",
        help="List, show and send again what could not be used.",
    ),
    "outbox": Subcommand(
        module="orchestrator.cli.outbox",
        help="List and send again messages that Kafka refused.",
    ),
    "topics": Subcommand(module="orchestrator.cli.topics", help="Create the Kafka topics."),
    "invariants": Subcommand(
        module="orchestrator.cli.invariants",
        help="Look whether everything holds that must hold.",
    ),
    "db": Subcommand(module="orchestrator.cli.db", help="Delete old tasks."),
    "migrate": Subcommand(
        module="orchestrator.cli.migrate", help="Bring the database to this release's schema."
    ),
    "doctor": Subcommand(
        module="orchestrator.cli.doctor",
        help="Look whether all is there that a worker needs.",
    ),
    "health": Subcommand(
        module="orchestrator.cli.health", help="Ask a running process whether it is well."
    ),
    "version": Subcommand(module="orchestrator.cli.version", help="Print the version."),
}


class _Deferred(TyperCommand):
    """Stands for a command in the list of commands; the command itself parses its arguments."""

    def __init__(self, name: str, subcommand: Subcommand) -> None:
        super().__init__(name, help=subcommand.help)
        self._module = subcommand.module

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        # By name: what a command needs takes up to two seconds to import, and `--help` needs none.
        command = typer.main.get_command(importlib.import_module(self._module).app)
        command.name = self.name
        return command.make_context(info_name, args, parent=parent, **extra)


class _Group(TyperGroup):
    """The commands of `SUBCOMMANDS`, in their order."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - click's signature
        return list(SUBCOMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - click's signature
        subcommand = SUBCOMMANDS.get(cmd_name)
        return None if subcommand is None else _Deferred(cmd_name, subcommand)


app = typer.Typer(cls=_Group, no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _root() -> None:
    """Runs business tasks from Kafka: an LLM decides, agents act, PostgreSQL remembers."""


def main() -> None:
    """Runs the command line and exits."""
    try:
        typer.main.get_command(app)(prog_name="orchestrator")
    except InvalidSettings as error:
        complain(str(error))
        sys.exit(2)
    except OrchestratorError as error:
        complain(str(error))
        sys.exit(1)
