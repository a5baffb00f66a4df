"""Bytes → a JSON object that PostgreSQL can keep, or an `InvalidMessage` that says what is wrong.

Never raises anything else, whatever the bytes are.
"""

import json
import math
import re

import orjson

from orchestrator.domain.errors import InvalidMessage
from orchestrator.domain.json import MAX_INTEGER, MIN_INTEGER, JsonObject, JsonValue

MAX_DEPTH = 64
SHOWN_CHARACTERS = 80
ENCODER = json.JSONEncoder(ensure_ascii=True, default=str)

UTF8_BOM = b"\xef\xbb\xbf"
LONG_NUMBER = re.compile(rb"\d{19}")
SURROGATE_OR_NUL = re.compile("[\x00\ud800-\udfff]")


def decode(value: bytes | None, *, max_bytes: int) -> JsonObject:
    """The object in a message's value. NUL characters and lone surrogates are taken out of texts.

    Raises:
        InvalidMessage: `null_value`, `too_large`, `invalid_utf8`, `invalid_json`, `too_deep` or
            `schema`.
    """
    if value is None:
        raise InvalidMessage("null_value", "the message has no value: expected a JSON object")
    if len(value) > max_bytes:
        raise InvalidMessage(
            "too_large", f"the value has {len(value)} bytes: expected at most {max_bytes}"
        )
    document = _parse(value.removeprefix(UTF8_BOM))
    if not isinstance(document, dict):
        raise InvalidMessage(
            "schema", f"the value is {kind_of(document)}, {shown(document)}: expected a JSON object"
        )
    return document


def clean_text(text: str) -> str:
    """The text without what PostgreSQL refuses: NUL and surrogates that belong to no pair."""
    return SURROGATE_OR_NUL.sub("", text)


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


def _parse(value: bytes) -> JsonValue:
    if not value.strip():
        raise InvalidMessage("invalid_json", "the value is empty: expected a JSON object")
    # orjson turns an integer that does not fit into a float, silently.
    document = None if LONG_NUMBER.search(value) else _parse_fast(value)
    if document is not None:
        is_clean = b"\\u0000" not in value
    else:
        document, is_clean = _parse_careful(value), False
    # No deeper than it has brackets: most messages need no walk.
    if value.count(b"[") + value.count(b"{") > MAX_DEPTH:
        _refuse_depth(document)
    return document if is_clean else _clean(document)


def _parse_fast(value: bytes) -> JsonValue | None:
    try:
        document: JsonValue = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    return document


def _parse_careful(value: bytes) -> JsonValue:
    """Parses what orjson refuses: for lone surrogates, and to say what is wrong with the rest."""
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidMessage(
            "invalid_utf8",
            f"the value is not UTF-8: byte 0x{value[error.start]:02x} at position {error.start}",
        ) from error
    try:
        document: JsonValue = json.loads(
            text, parse_int=_integer, parse_float=_number, parse_constant=_refuse_constant
        )
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise InvalidMessage("invalid_json", f"not JSON: {error.msg} ({where})") from error
    except RecursionError as error:
        raise _too_deep() from error
    return document


def _integer(digits: str) -> int:
    # Twenty digits and a sign hold every 64-bit integer; longer ones are slow to convert.
    if len(digits) > len("-18446744073709551615") or not (
        MIN_INTEGER <= int(digits) <= MAX_INTEGER
    ):
        raise InvalidMessage(
            "invalid_json",
            f"the integer {shown(digits)} does not fit into 64 bits: send it as a text",
        )
    return int(digits)


def _number(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise InvalidMessage(
            "invalid_json",
            f"the number {shown(digits)} is larger than a double can be: send it as a text",
        )
    return number


def _refuse_constant(name: str) -> float:
    raise InvalidMessage("invalid_json", f"{name} is not JSON: send null or a text")


def _too_deep() -> InvalidMessage:
    return InvalidMessage("too_deep", f"nested too deeply: expected at most {MAX_DEPTH} levels")


def _refuse_depth(document: JsonValue) -> None:
    level: list[JsonValue] = [document]
    for _ in range(MAX_DEPTH + 1):
        level = [child for value in level for child in _children(value)]
        if not level:
            return
    raise _too_deep()


def _children(value: JsonValue) -> list[JsonValue]:
    match value:
        case dict():
            return list(value.values())
        case list():
            return value
        case _:
            return []


def _clean(value: JsonValue) -> JsonValue:
    match value:
        case str():
            return clean_text(value)
        case dict():
            return {clean_text(key): _clean(child) for key, child in value.items()}
        case list():
            return [_clean(child) for child in value]
        case _:
            return value
