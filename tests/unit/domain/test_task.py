import re
from pathlib import Path

from orchestrator.domain.task import TRANSITIONS, TaskStatus

PAGE = (Path(__file__).parents[3] / "docs" / "state-machine.md").read_text()
DRAWN = {(a, b) for a, b in re.findall(r"^    (\w+) --> (\w+)", PAGE, re.MULTILINE)}
LISTED = set(re.findall(r"^\| `(\w+)` \| `(\w+)` \|", PAGE, re.MULTILINE))
IN_CODE = {(a.value, b.value) for a, after in TRANSITIONS.items() for b in after}


def test_the_picture_of_the_state_machine_is_the_code() -> None:
    assert DRAWN == IN_CODE


def test_the_table_of_the_state_machine_is_the_code() -> None:
    assert LISTED == IN_CODE


def test_every_status_has_its_place() -> None:
    assert set(TRANSITIONS) == set(TaskStatus)
    reached = {"expected", "ready", "running"} | {b for _, b in IN_CODE}
    assert reached == {status.value for status in TaskStatus}


def test_only_a_person_moves_a_task_that_is_over() -> None:
    for status in TaskStatus:
        if status.is_final:
            assert TRANSITIONS[status] <= {TaskStatus.READY}


def test_only_a_ready_task_is_due() -> None:
    assert [s for s in TaskStatus if s.is_due] == [TaskStatus.READY]
