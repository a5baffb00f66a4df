"""The key under which agents remember what they did."""

from orchestrator.domain.ids import Seq, TaskId, idempotency_key


def test_the_idempotency_key_is_what_agents_already_stored() -> None:
    assert idempotency_key(TaskId("task-17/a"), step=Seq(3), call=2) == "task-17/a/3/2"
