"""What `publish` sends: messages made from options or from the lines of a file, checked before.

Pure: nothing is sent from here.
"""

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import orjson

from orchestrator.bus.contract import (
    EventMessage,
    TaskMessage,
    check_budget,
    check_event,
    check_kind,
)
from orchestrator.bus.decoding import shown
from orchestrator.cli.session import json_argument
from orchestrator.domain.errors import InvalidMessage
from orchestrator.domain.json import (
    JsonObject,
    JsonValue,
    UnreadableJson,
    clean_text,
    read_json,
)

TopicKind = Literal["tasks", "events"]

NO_JSON = ("NaN", "Infinity", "-Infinity")
"""Some parsers take them for numbers; after `name=` they are texts."""

LINE_FIELDS = frozenset({"topic", "key", "value", "raw"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A message as it will be sent."""

    topic: TopicKind
    key: str | None
    value: bytes | None
    task_id: str | None
    """For people; None where it can't be known."""


def field_values(pairs: Iterable[str]) -> JsonObject:
    """The object that `--data` options give: each is `name=value`, or a JSON object.

    A value that is JSON is what it says (`3`, `true`, `[1]`); any other is a text.

    Raises:
        ValueError: one is neither.
    """
    found: JsonObject = {}
    for pair in pairs:
        if pair.lstrip("\ufeff \t\r\n").startswith("{"):
            found |= _json_object(pair)
            continue
        name, separator, text = pair.partition("=")
        if not separator or not name:
            raise ValueError(f"{pair!r} is neither name=value nor a JSON object")
        found[name] = _value(text)
    return found


def _json_object(text: str) -> JsonObject:
    try:
        return json_argument(text)
    except InvalidMessage as error:
        raise ValueError(f"{text!r}: {error}") from error


def _value(text: str) -> JsonValue:
    try:
        return read_json(text)
    except UnreadableJson as error:
        if error.is_number and text.strip() not in NO_JSON:
            raise
        return clean_text(text)


def task_message(fields: JsonObject) -> Outgoing:
    """A task; without an id it gets one, so that it can be printed and an event can name it.

    Raises:
        InvalidMessage: a field is wrong, missing or unknown.
    """
    complete: JsonObject = {"task_id": str(uuid.uuid4()), **_present(fields)}
    message = TaskMessage.read(complete)
    check_kind(message)
    check_budget(message)
    return _outgoing("tasks", complete)


def event_message(fields: JsonObject) -> Outgoing:
    """An event.

    Raises:
        InvalidMessage: a field is wrong, missing or unknown.
    """
    present = _present(fields)
    check_event(EventMessage.read(present))
    return _outgoing("events", present)


def _present(fields: JsonObject) -> JsonObject:
    return {name: value for name, value in fields.items() if value is not None}


def _outgoing(topic: TopicKind, fields: JsonObject) -> Outgoing:
    task_id = str(fields["task_id"])
    return Outgoing(topic=topic, key=task_id, value=orjson.dumps(fields), task_id=task_id)


def lines_of(lines: Iterable[bytes]) -> Iterator[Outgoing | str]:
    """For each line that is not empty its message, or what is wrong with it and where.

    A line is a task message's value, or `{"topic": "tasks" | "events", "key"?, "value"}`. With
    `raw` (a text) in the place of `value`, exactly that is sent, whatever it is.
    """
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield _line(line)
        except (ValueError, InvalidMessage) as error:
            yield f"line {number}: {error}"


def _line(line: bytes) -> Outgoing:
    document = read_json(line)
    if not isinstance(document, dict):
        raise ValueError(  # noqa: TRY004 - what is wrong is the text
            f"expected a JSON object; got {shown(document)}"
        )
    return _addressed(document) if "topic" in document else task_message(document)


def _addressed(document: JsonObject) -> Outgoing:
    unknown = sorted(set(document) - LINE_FIELDS)
    if unknown:
        raise ValueError(f"unknown field {unknown[0]!r}; known are topic, key, value and raw")
    if ("value" in document) == ("raw" in document):
        raise ValueError("expected one of value and raw beside topic")
    key = document.get("key")
    if key is not None and not isinstance(key, str):
        raise ValueError(f"key: expected a text; got {shown(key)}")
    topic = _topic(document["topic"])
    if key is None and document.get("raw", "") is None:
        raise ValueError("expected a key or a value: Kafka takes no message without both")
    if "raw" in document:
        return Outgoing(topic=topic, key=key, value=_raw(document["raw"]), task_id=None)
    value = document["value"]
    if not isinstance(value, dict):
        raise ValueError(  # noqa: TRY004 - what is wrong is the text
            f"value: expected an object; got {shown(value)}"
        )
    made = task_message(value) if topic == "tasks" else event_message(value)
    return (
        made
        if key is None
        else Outgoing(topic=topic, key=key, value=made.value, task_id=made.task_id)
    )


def _topic(name: JsonValue) -> TopicKind:
    match name:
        case "tasks" | "events":
            return name
        case _:
            raise ValueError(f"topic is {name!r}; expected 'tasks' or 'events'")


def _raw(value: JsonValue) -> bytes | None:
    if value is None or isinstance(value, str):
        return None if value is None else value.encode()
    raise ValueError(
        f"raw: expected a text, or null for a message without a value; got {shown(value)}"
    )
