"""Good messages become what they say."""

import json
import uuid
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from orchestrator.bus.messages import parse_event, parse_task, readable_task_id
from orchestrator.domain.budget import Budget
from orchestrator.domain.errors import InvalidMessage
from orchestrator.store.ingest import NewEvent, NewTask, Origin


def origin(
    value: object, *, topic: str = "tasks", headers: tuple[tuple[str, str], ...] = ()
) -> Origin:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Origin(topic=topic, partition=2, offset=7, key=b"k", value=raw, headers=headers)


def task(value: object, *, headers: tuple[tuple[str, str], ...] = ()) -> NewTask:
    return parse_task(origin(value, headers=headers), cluster_id="c", max_bytes=10_000)


def event(value: object, *, headers: tuple[tuple[str, str], ...] = ()) -> NewEvent:
    return parse_event(origin(value, topic="events", headers=headers), max_bytes=10_000)


BINARY = (
    ("ce_specversion", "1.0"),
    ("ce_id", "4711"),
    ("ce_source", "/shop"),
    ("ce_type", "order"),
)


def test_only_the_description_is_needed() -> None:
    found = task({"task_description": "create a user"})
    assert found.description == "create a user"
    assert (found.kind, found.tenant, found.priority) == ("agentic", "default", 1)
    assert found.context["required_fields"] == []


def test_every_field_of_a_task_is_taken() -> None:
    found = task(
        {
            "task_id": "t-1",
            "task_description": "x",
            "required_fields": ["a", "b"],
            "event_data": {"a": 1, "c": None},
            "kind": "agentic",
            "priority": "high",
            "deadline": "2030-01-31T12:00:00+02:00",
            "budget_tokens": 5000,
            "tenant": "acme",
            "metadata": {"from": "test"},
        }
    )
    assert found.task_id == "t-1"
    assert found.deadline == datetime(2030, 1, 31, 10, tzinfo=UTC)
    assert (found.priority, found.budget.tokens, found.tenant) == (0, 5000, "acme")
    assert found.metadata == {"from": "test"}


def test_a_budget_has_a_short_form_for_tokens() -> None:
    short = task({"task_description": "x", "budget_tokens": 5, "budget": {"tokens": 5, "cost": 1}})
    assert short.budget == Budget(tokens=5, cost_micros=1_000_000)
    whole = {"tokens": 1, "cost": 0.5, "steps": 2, "attempts": 3, "seconds": 4}
    found = task({"task_description": "x", "budget": whole | {"when_exhausted": "wait"}}).budget
    assert found == Budget(
        tokens=1, cost_micros=500_000, steps=2, attempts=3, seconds=4, when_exhausted="wait"
    )


def test_a_top_up_says_what_it_adds() -> None:
    found = event({"task_id": "t", "event_type": "top_up", "budget": {"tokens": 5, "cost": 0.5}})
    assert (found.event_type, found.payload) == ("top_up", {"budget": {"tokens": 5, "cost": 0.5}})


def test_the_data_of_a_top_up_does_not_replace_the_budget_that_was_checked() -> None:
    found = event(
        {
            "task_id": "t",
            "event_type": "top_up",
            "budget": {"steps": 1},
            "event_data": {"budget": {"cost": 1e303}, "why": "more to do"},
        }
    )
    assert found.payload == {"budget": {"steps": 1}, "why": "more to do"}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"event_type": "top_up"}, "what is added"),
        ({"event_type": "top_up", "budget": {}}, "what is added"),
        ({"event_type": "top_up", "budget": {"tokens": 1, "when_exhausted": "wait"}}, "what is"),
        ({"budget": {"tokens": 1}}, "budget belongs to event_type 'top_up', not to 'data'"),
    ],
)
def test_a_top_up_that_adds_nothing_is_refused(fields: dict[str, object], says: str) -> None:
    with pytest.raises(InvalidMessage, match=says):
        event({"task_id": "t", **fields})


def test_required_fields_that_the_message_brings_are_collected() -> None:
    found = task(
        {"task_description": "x", "required_fields": ["a", "b"], "event_data": {"a": 1, "c": 2}}
    )
    assert found.context["collected_data"] == {"a": 1}
    assert found.context["event_data"] == {"a": 1, "c": 2}


def test_a_required_field_may_say_who_provides_it() -> None:
    fields = ["a", {"name": "b", "from": "event"}, {"name": "c", "from": "person"}, {"name": "d"}]
    data = {"a": 1, "b": 2, "c": 3}
    found = task({"task_description": "x", "required_fields": fields, "event_data": data})
    assert found.context["required_fields"] == ["a", "b", "c", "d"]
    assert found.context["providers"] == {"b": "event", "c": "person"}
    assert found.context["collected_data"] == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    "field",
    [
        {"name": "a", "from": "model"},
        {"name": "a", "from": None},
        {"name": "a", "by": "event"},
        {"name": "", "from": "event"},
        {"name": ["a"], "from": "event"},
        {"from": "event"},
        {},
        ["a", "event"],
        "x" * 201,
    ],
)
def test_a_required_field_that_is_none_is_refused(field: object) -> None:
    with pytest.raises(
        InvalidMessage, match=r"required_fields\[1\]: got .*agent \| event \| person"
    ):
        task({"task_description": "x", "required_fields": ["b", field]})


def test_a_required_field_comes_once_whoever_provides_it() -> None:
    with pytest.raises(InvalidMessage, match="distinct"):
        task({"task_description": "x", "required_fields": ["a", {"name": "a", "from": "event"}]})


def test_no_message_can_say_that_a_person_gave_its_data() -> None:
    with pytest.raises(InvalidMessage, match="event_type 'given' is reserved"):
        event({"task_id": "t", "event_type": "given", "event_data": {"data": {"a": 1}}})


def test_fields_that_are_null_are_absent() -> None:
    found = task({"task_description": "x", "flow_id": None, "deadline": None, "priority": None})
    assert found.priority == 1


def test_a_generated_id_is_the_same_when_the_record_is_read_again() -> None:
    first, second = task({"task_description": "x"}), task({"task_description": "x"})
    assert first.task_id == second.task_id
    assert uuid.UUID(first.task_id)


def test_a_dead_letter_that_was_sent_again_twice_is_one_task() -> None:
    again = origin({"task_description": "x"}, headers=(("dlq.replay_of", "a1"),))
    later = replace(again, offset=again.offset + 1)
    other = replace(again, headers=(("dlq.replay_of", "a2"),))
    ids = [parse_task(o, cluster_id="c", max_bytes=10_000).task_id for o in (again, later, other)]
    assert ids[0] == ids[1] != ids[2]


def test_a_generated_id_is_another_in_another_cluster() -> None:
    found = origin({"task_description": "x"})
    ids = {parse_task(found, cluster_id=c, max_bytes=100).task_id for c in ("c", "d")}
    assert len(ids) == 2


def test_nul_and_lone_surrogates_are_replaced_also_in_keys() -> None:
    found = task(
        b'{"task_description": "a\\u0000b\\ud800", "event_data": {"k\\u0000": ["\\udfff"]}}'
    )
    assert found.description == "a\ufffdb\ufffd"
    assert found.context["event_data"] == {"k\ufffd": ["\ufffd"]}


def test_a_surrogate_pair_stays() -> None:
    assert task(b'{"task_description": "\\ud83d\\ude00"}').description == "😀"


def test_large_integers_keep_their_value() -> None:
    found = task(b'{"task_description": "x", "event_data": {"n": 18446744073709551615}}')
    assert found.context["event_data"] == {"n": 18446744073709551615}


def test_a_byte_order_mark_is_passed_over() -> None:
    assert task(b'\xef\xbb\xbf{"task_description": "x"}').description == "x"


def test_a_traceparent_comes_along_where_it_is_one() -> None:
    good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert task({"task_description": "x"}, headers=(("traceparent", good),)).traceparent == good
    assert task({"task_description": "x"}, headers=(("traceparent", "zz"),)).traceparent is None


@pytest.mark.parametrize("attribute", ["data", "data_base64"])
def test_a_structured_cloud_event_is_read(attribute: str) -> None:
    data: object = {"task_description": "x"}
    if attribute == "data_base64":
        data = "eyJ0YXNrX2Rlc2NyaXB0aW9uIjogIngifQ=="
    value = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", attribute: data}
    found = task(value, headers=(("Content-Type", "application/cloudevents+json"),))
    assert found.description == "x"


def test_a_cloud_event_that_was_sent_twice_is_one_task() -> None:
    again = origin({"task_description": "x"}, headers=BINARY)
    elsewhere = Origin(
        topic="tasks", partition=5, offset=99, value=again.value, headers=again.headers
    )
    ids = {parse_task(o, cluster_id="c", max_bytes=100).task_id for o in (again, elsewhere)}
    assert len(ids) == 1


def test_a_header_that_only_looks_like_cloud_events_changes_nothing() -> None:
    headers = (("ce_id", "1"), ("ce_specversion", "0.1"))
    assert task({"task_description": "x"}, headers=headers).description == "x"


def test_only_the_task_id_of_an_event_is_needed() -> None:
    found = event({"task_id": "t"})
    assert (found.task_id, found.event_type, found.payload) == ("t", "data", {})


def test_event_data_and_what_else_an_event_says_are_its_payload() -> None:
    found = event({"task_id": "t", "event_data": {"a": 1}, "metadata": {"m": 2}, "tenant": "x"})
    assert found.payload == {"metadata": {"m": 2}, "a": 1}


def test_an_agents_answer_keeps_its_fields() -> None:
    answer = {"task_id": "t", "event_type": "agent_result", "step": 3, "call": 1}
    found = event({**answer, "output": {"id": 5}, "error_message": None})
    assert (found.step, found.call) == (3, 1)
    assert found.payload == {"status": "success", "output": {"id": 5}}


def test_an_agents_error_is_an_error_also_without_its_status() -> None:
    answer = {"task_id": "t", "event_type": "agent_result", "step": 3, "call": 1}
    assert event({**answer, "error_message": "no"}).payload["status"] == "error"


def test_a_cloud_events_id_deduplicates_an_event() -> None:
    first, second = (event({"task_id": "t"}, headers=BINARY) for _ in range(2))
    assert first.event_id == second.event_id is not None
    assert event({"task_id": "t", "event_id": "mine"}, headers=BINARY).event_id == "mine"


def test_the_task_of_a_message_that_is_refused_is_told_where_it_can_be_read() -> None:
    assert readable_task_id(origin({"task_id": "t", "x": 1}), max_bytes=100) == "t"
    assert readable_task_id(origin(b"{"), max_bytes=100) is None
