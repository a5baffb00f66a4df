"""`docs/state-machine.md`, the code's table of transitions and the SQL statements agree."""

import re
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest

from orchestrator.domain.task import TRANSITIONS, TaskStatus

DOCUMENT = Path(__file__).parents[3] / "docs" / "state-machine.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
NO_ROW = "none"
BY_PARAMETER = "journal.JOURNAL"
"""The one statement to which the status is handed by its caller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    before: str
    after: str
    statement: str


def rows() -> list[Row]:
    table = TEXT.split("## Every change")[1].split("## ")[0]
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.splitlines()
        if line.startswith("|")
    ]
    return [Row(before=c[0], after=c[1], statement=c[3].strip("`")) for c in cells[2:]]


ROWS = rows()


def documented(pairs: set[tuple[str, str]]) -> dict[TaskStatus, frozenset[TaskStatus]]:
    return {
        status: frozenset(
            TaskStatus(after) for before, after in pairs if before == status and after != NO_ROW
        )
        for status in TaskStatus
    }


def test_the_table_is_the_codes_transitions() -> None:
    assert documented({(row.before, row.after) for row in ROWS}) == TRANSITIONS


def test_the_diagram_is_the_codes_transitions() -> None:
    arrows = set(re.findall(r"^ +(\w+) --> (\w+)", TEXT, flags=re.MULTILINE))
    assert documented(arrows) == TRANSITIONS


def test_rows_come_and_go_in_the_diagram_as_in_the_table() -> None:
    begun = set(re.findall(r"\[\*\] --> (\w+)", TEXT))
    assert begun == {row.after for row in ROWS if row.before == NO_ROW}
    deleted = {row.before for row in ROWS if row.after == NO_ROW}
    ended = {s for s, after in TRANSITIONS.items() if not after}
    assert set(re.findall(r"(\w+) --> \[\*\]", TEXT)) == deleted | ended


def test_every_status_is_explained() -> None:
    explained = TEXT.split("## Every change", maxsplit=1)[0]
    assert [s for s in TaskStatus if f"| `{s}` |" not in explained] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.before}-{row.after}-{row.statement}")
def test_the_named_statement_writes_the_status(row: Row) -> None:
    module, name = row.statement.split(".")
    sql = getattr(import_module(f"orchestrator.store.{module}"), name)
    writes = "DELETE FROM tasks" if row.after == NO_ROW else f"'{row.after}'"
    assert writes in sql or row.statement == BY_PARAMETER


def test_a_final_status_is_left_only_by_a_person() -> None:
    left = {row.statement for row in ROWS if row.before in {s for s in TaskStatus if s.is_final}}
    assert left == {"operations.RETRY"}
