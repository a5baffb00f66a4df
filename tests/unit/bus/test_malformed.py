"""Whatever the bytes are, a message is read or refused with a reason."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.bus.headers import headers_to_text
from orchestrator.bus.messages import parse_event, parse_task, readable_task_id
from orchestrator.domain.errors import InvalidMessage
from orchestrator.store.ingest import NewEvent, NewTask, Origin
from tests.fakes.malformed import MALFORMED, MAX_BYTES, Malformed

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    ["task_id", "task_description", "required_fields", "event_data", "priority", "deadline"]
    + ["budget_tokens", "tenant", "metadata", "event_type", "event_id", "step", "call", "status"]
)


def origin(value: bytes | None, topic: str = "tasks", headers: object = ()) -> Origin:
    text = headers_to_text(headers)  # type: ignore[arg-type]
    return Origin(topic=topic, partition=0, offset=3, value=value, headers=text)


def parse(found: Origin) -> NewTask | NewEvent:
    if found.topic == "tasks":
        return parse_task(found, cluster_id="c", max_bytes=MAX_BYTES)
    return parse_event(found, max_bytes=MAX_BYTES)


def test_there_are_enough_kinds_of_malformed_messages() -> None:
    assert len(MALFORMED) >= 50
    assert len({m.what for m in MALFORMED}) == len(MALFORMED)


@pytest.mark.parametrize("message", MALFORMED, ids=lambda m: m.what)
def test_a_malformed_message_is_refused_with_what_is_wrong(message: Malformed) -> None:
    with pytest.raises(InvalidMessage) as caught:
        parse(origin(message.value, message.topic, message.headers))
    assert caught.value.reason == message.reason
    assert message.mentions in str(caught.value)
    assert len(str(caught.value)) <= 1000


@pytest.mark.parametrize("topic", ["tasks", "events"])
@given(value=st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(topic: str, value: bytes) -> None:
    try:
        parse(origin(value, topic))
    except InvalidMessage as error:
        assert error.reason


@pytest.mark.parametrize("topic", ["tasks", "events"])
@given(document=st.dictionaries(FIELDS | st.text(max_size=5), JSON_VALUES, max_size=6))
@settings(max_examples=200)
def test_any_json_is_read_or_refused(topic: str, document: dict[str, object]) -> None:
    import json  # noqa: PLC0415

    value = json.dumps(document).encode()
    try:
        parse(origin(value, topic))
    except InvalidMessage as error:
        assert len(str(error)) <= 1000
    readable_task_id(origin(value), max_bytes=MAX_BYTES)


@given(headers=st.lists(st.tuples(st.text(max_size=8), st.binary(max_size=20) | st.none())))
def test_any_headers_are_read_or_refused(headers: list[tuple[str, bytes | None]]) -> None:
    try:
        parse(origin(b'{"task_description": "x"}', headers=headers))
    except InvalidMessage as error:
        assert error.reason
