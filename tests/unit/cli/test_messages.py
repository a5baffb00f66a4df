import json
import uuid

import pytest

from orchestrator.cli.messages import Outgoing, event_message, field_values, lines_of, task_message
from orchestrator.domain.errors import InvalidMessage


def sent(line: str) -> Outgoing:
    (found,) = lines_of([line.encode()])
    assert isinstance(found, Outgoing), found
    return found


def refused(line: str) -> str:
    (found,) = lines_of([line.encode()])
    assert isinstance(found, str)
    return found


def test_values_are_json_where_they_can_be_and_text_else() -> None:
    pairs = ["country=DE", "count=3", "is_new=true", 'tags=["a"]', "empty=", "url=http://a?b=c"]
    assert field_values(pairs) == {
        "country": "DE",
        "count": 3,
        "is_new": True,
        "tags": ["a"],
        "empty": "",
        "url": "http://a?b=c",
    }


def test_an_object_gives_several_fields() -> None:
    assert field_values(['{"a": 1, "b": {"c": 2}}', "d=3"]) == {"a": 1, "b": {"c": 2}, "d": 3}


LONG = "1" * 30


@pytest.mark.parametrize("pair", [f"count={LONG}", f'{{"count": {LONG}}}'])
def test_a_number_that_would_be_rounded_is_refused(pair: str) -> None:
    with pytest.raises(ValueError, match="64 bits"):
        field_values([pair])


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert field_values(["name=a\udcff"]) == {"name": "a\ufffd"}


@pytest.mark.parametrize("pair", ["country", "=DE", "{country}"])
def test_what_is_no_field_is_refused(pair: str) -> None:
    with pytest.raises(ValueError, match=r"country|=DE"):
        field_values([pair])


def test_a_task_without_an_id_gets_one_that_is_its_key() -> None:
    message = task_message({"task_description": "words", "task_id": None})
    assert str(uuid.UUID(message.task_id)) == message.key
    assert json.loads(message.value or b"")["task_id"] == message.task_id


@pytest.mark.parametrize(
    "fields",
    [{}, {"task_description": " "}, {"task_description": "a", "requiered_fields": ["b"]}],
)
def test_a_task_that_would_be_a_dead_letter_is_not_sent(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidMessage):
        task_message(json.loads(json.dumps(fields)))


def test_an_event_needs_a_task() -> None:
    with pytest.raises(InvalidMessage, match="task_id"):
        event_message({"event_data": {"a": 1}})


def test_a_line_may_be_a_tasks_value() -> None:
    message = sent('{"task_id": "a", "task_description": "words"}')
    assert (message.topic, message.key, message.task_id) == ("tasks", "a", "a")


def test_a_line_may_say_topic_and_key() -> None:
    message = sent('{"topic": "events", "key": "k", "value": {"task_id": "a"}}')
    assert (message.topic, message.key, message.task_id) == ("events", "k", "a")


@pytest.mark.parametrize(("raw", "value"), [('"{broken"', b"{broken"), ("null", None)])
def test_raw_is_sent_as_it_is(raw: str, value: bytes | None) -> None:
    assert sent(f'{{"topic": "tasks", "key": "k", "raw": {raw}}}').value == value


def test_a_message_without_key_and_value_is_refused() -> None:
    assert "a key or a value" in refused('{"topic": "tasks", "raw": null}')


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"topic": "tusks", "value": {}}',
        '{"topic": "tasks"}',
        '{"topic": "tasks", "value": {}, "raw": ""}',
        '{"topic": "tasks", "value": 3}',
        '{"topic": "tasks", "raw": 3}',
        '{"topic": "tasks", "key": 3, "raw": ""}',
        '{"topic": "tasks", "vaule": {}}',
        '{"topic": "events", "value": {"event_data": {}}}',
        '{"task_description": 3}',
    ],
)
def test_a_bad_line_is_told_with_its_number(line: str) -> None:
    assert refused(line).startswith("line 1: ")


def test_good_lines_around_a_bad_one_are_kept() -> None:
    lines = [b'{"task_description": "a"}\n', b"\n", b"nonsense\n", b'{"task_description": "b"}\n']
    found = list(lines_of(lines))
    assert [isinstance(f, Outgoing) for f in found] == [True, False, True]
    assert str(found[1]).startswith("line 3: ")
