"""Bytes → a JSON object that PostgreSQL can keep, or an `InvalidMessage` that says what is wrong.

Never raises anything else, whatever the bytes are.
"""

import json

from orchestrator.domain.errors import InvalidMessage
from orchestrator.domain.json import JsonObject, JsonValue, UnreadableJson, read_json

SHOWN_CHARACTERS = 80
ENCODER = json.JSONEncoder(ensure_ascii=True, default=str)


def decode(value: bytes | None, *, max_bytes: int) -> JsonObject:
    """The object in a message's value.

    Raises:
        InvalidMessage: `null_value`, `too_large`, `invalid_utf8`, `invalid_json`, `too_deep` or
            `schema`.
    """
    return as_object(parsed(bounded(value, max_bytes=max_bytes)))


def bounded(value: bytes | None, *, max_bytes: int) -> bytes:
    """The value, if there is one that is not too large."""
    if value is None:
        raise InvalidMessage("null_value", "the message has no value: expected a JSON object")
    if len(value) > max_bytes:
        raise InvalidMessage(
            "too_large", f"the value has {len(value)} bytes: expected at most {max_bytes}"
        )
    return value


def parsed(value: bytes | str, *, where: str = "the value") -> JsonValue:
    """The JSON in it; `where` it is, for the error's text."""
    try:
        return read_json(value)
    except UnreadableJson as error:
        text = str(error) if error.is_number else f"{where} is {error}"
        raise InvalidMessage(error.reason, text) from error


def as_object(document: JsonValue) -> JsonObject:
    """The document, where it is an object."""
    if not isinstance(document, dict):
        raise InvalidMessage(
            "schema", f"the value is {kind_of(document)}, {shown(document)}: expected a JSON object"
        )
    return document


def shown(value: object) -> str:
    """A value as it may stand in an error's text: short, on one line; read only so far."""
    try:
        text = ""
        for piece in ENCODER.iterencode(value):
            text += piece
            if len(text) > SHOWN_CHARACTERS:
                break
    except (ValueError, RecursionError):
        text = f"<{type(value).__name__}>"
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def kind_of(value: object) -> str:
    """What a JSON value is, in JSON's words."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return "a list"
        case _:
            return "an object"
