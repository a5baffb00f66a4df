"""Whatever the bytes are, a message is read or refused with a reason."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.malformed import MALFORMED, MAX_BYTES, Malformed
from orchestrator.bus.contract import EventMessage, TaskMessage
from orchestrator.bus.headers import headers_to_text
from orchestrator.bus.messages import parse_event, parse_task, readable_task_id
from orchestrator.domain.errors import InvalidMessage
from orchestrator.store.ingest import NewEvent, NewTask, Origin

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(sorted(TaskMessage.model_fields.keys() | EventMessage.model_fields.keys()))


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


def refusal(found: Origin) -> InvalidMessage | None:
    """Why it was refused; anything else that is raised fails the test."""
    try:
        parse(found)
    except InvalidMessage as error:
        return error
    return None


@pytest.mark.parametrize("topic", ["tasks", "events"])
@given(value=st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(topic: str, value: bytes) -> None:
    error = refusal(origin(value, topic))
    assert error is None or error.reason


@pytest.mark.parametrize("topic", ["tasks", "events"])
@given(document=st.dictionaries(FIELDS | st.text(max_size=5), JSON_VALUES, max_size=6))
def test_any_json_is_read_or_refused(topic: str, document: dict[str, object]) -> None:
    found = origin(json.dumps(document).encode(), topic)
    error = refusal(found)
    assert error is None or len(str(error)) <= 1000
    assert readable_task_id(found, max_bytes=MAX_BYTES) is None or "task_id" in document


@given(headers=st.lists(st.tuples(st.text(max_size=8), st.binary(max_size=20) | st.none())))
def test_any_headers_are_read_or_refused(headers: list[tuple[str, bytes | None]]) -> None:
    error = refusal(origin(b'{"task_description": "x"}', headers=headers))
    assert error is None or error.reason
