"""Statuses: which are final, and which may follow which."""

from orchestrator.domain.task import HEAD_START, TRANSITIONS, Priority, TaskStatus


def test_three_statuses_are_final() -> None:
    assert {s for s in TaskStatus if s.is_final} == {"completed", "failed", "cancelled"}


def test_only_a_ready_task_is_due() -> None:
    assert [s for s in TaskStatus if s.is_due] == [TaskStatus.READY]


def test_every_status_has_its_transitions_and_none_leads_to_itself() -> None:
    assert set(TRANSITIONS) == set(TaskStatus)
    assert not [s for s, after in TRANSITIONS.items() if s in after]


def test_every_status_can_be_reached() -> None:
    reached = {after for many in TRANSITIONS.values() for after in many}
    assert set(TaskStatus) - reached == {TaskStatus.EXPECTED}


def test_only_a_worker_that_runs_a_task_completes_it() -> None:
    before = {s for s, after in TRANSITIONS.items() if TaskStatus.COMPLETED in after}
    assert before == {TaskStatus.RUNNING}


def test_the_smaller_priority_comes_first_as_it_is_stored() -> None:
    stored = {"CRITICAL": -1, "HIGH": 0, "NORMAL": 1, "LOW": 2}
    assert {p.name: p.value for p in Priority} == stored
    assert sorted(Priority, key=lambda p: HEAD_START[p], reverse=True) == sorted(Priority)


def test_the_words_for_statuses_are_as_they_are_stored() -> None:
    assert " ".join(TaskStatus) == (
        "expected ready running waiting completed failed cancelled quarantined"
    )
