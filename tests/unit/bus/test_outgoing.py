"""What goes out: updates, letters, and what becomes of those that are too large."""

import json
from datetime import UTC, datetime

from orchestrator.bus.dead_letters import LENGTH
from orchestrator.bus.options import BusOptions
from orchestrator.bus.outgoing import Outgoing, encode
from orchestrator.bus.updates import update_message, update_type
from orchestrator.domain.ids import Seq, TaskId
from orchestrator.domain.json import JsonObject
from orchestrator.store.outbox import Gone, Letter, StepUpdate

OPTIONS = BusOptions()


def update(kind: str = "completed", body: JsonObject | None = None) -> StepUpdate:
    return StepUpdate(
        id=5,
        task_id=TaskId("t-1"),
        tenant="acme",
        traceparent="00-a",
        seq=Seq(3),
        kind=kind,
        body=body or {"result": {"a": 1}},
        change={"collected_data": {"a": 1}},
        at=datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC),
    )


def headers(message: Outgoing) -> dict[str, bytes | None]:
    return dict(message.headers)


def test_an_update_is_plain_json() -> None:
    key, value, _ = update_message(update(), source="/orchestrator")
    assert key == b"t-1"
    assert json.loads(value) == {
        "id": "t-1/3",
        "type": "task.completed",
        "task_id": "t-1",
        "tenant": "acme",
        "seq": 3,
        "at": "2030-01-02T03:04:05Z",
        "kind": "completed",
        "step": {"result": {"a": 1}},
        "change": {"collected_data": {"a": 1}},
    }


def test_an_updates_headers_make_it_a_cloud_event() -> None:
    found = dict(update_message(update(), source="/orchestrator")[2])
    assert found["ce_specversion"] == "1.0"
    assert found["ce_id"] == found["id"] == "t-1/3"
    assert found["ce_type"] == "orchestrator.task.completed.v1"
    assert (found["ce_subject"], found["ce_source"]) == ("t-1", "/orchestrator")
    assert found["content-type"] == "application/json"
    assert found["traceparent"] == "00-a"


def test_what_has_no_type_of_its_own_is_a_step() -> None:
    assert update_type("result") == "task.step"
    assert update_type("accepted") == "task.accepted"


def test_a_row_becomes_one_message_on_its_topic() -> None:
    (message,) = encode(update(), OPTIONS, max_bytes=100_000)
    assert (message.row, message.topic) == (5, "task-updates")


def test_of_a_letter_with_a_huge_key_and_huge_headers_goes_out_what_kafka_takes() -> None:
    letter = Letter(
        id=1,
        topic="dead-letters",
        key=b"k" * 50_000,
        value=b"",
        headers=(("dlq.reason", "schema"), ("dlq.original.header.a", "x" * 50_000)),
    )
    (sent,) = encode(letter, OPTIONS, max_bytes=30_000)
    told = headers(sent)
    assert sent.size <= 30_000
    assert sent.key == b"k" * 16_384
    assert told["dlq.original.key.length"] == b"50000"
    assert told["dlq.original.headers_left_out"] == b"1"
    assert told["dlq.reason"] == b"schema"


def test_an_update_that_is_too_large_becomes_a_stub_and_a_letter() -> None:
    stub, letter = encode(update(body={"text": "x" * 5000}), OPTIONS, max_bytes=3000)
    assert json.loads(stub.value or b"")["step"] is None
    assert "too large" not in json.loads(stub.value or b"")["note"]
    assert stub.topic == "task-updates"
    assert letter.topic == "dead-letters"
    assert headers(letter)["dlq.reason"] == b"publish_too_large"
    assert stub.size <= 3000
    assert letter.size <= 3000


def test_a_letter_that_is_too_large_is_cut() -> None:
    row = Letter(
        id=1, topic="dead-letters", key=b"k", value=b"x" * 5000, headers=(("dlq.id", "1"),)
    )
    (message,) = encode(row, OPTIONS, max_bytes=3000)
    assert message.size <= 3000
    assert len(message.value or b"") > 2000
    assert headers(message)[LENGTH] == b"5000"


def test_a_letter_that_the_database_wrote_is_completed_the_same_each_time() -> None:
    row = Letter(
        id=1, topic="dead-letters", key=None, value=b"v", headers=(("dlq.reason", "crash_loop"),)
    )
    first, second = (encode(row, OPTIONS, max_bytes=3000)[0] for _ in range(2))
    assert headers(first)["dlq.id"] == headers(second)["dlq.id"]
    assert headers(first)["dlq.consumer_group"] == b"orchestrator"


def test_a_row_whose_task_is_gone_publishes_nothing() -> None:
    assert encode(Gone(id=1), OPTIONS, max_bytes=3000) == ()
