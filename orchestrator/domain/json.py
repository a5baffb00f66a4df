"""JSON as Python types, and the one reader of JSON that others wrote.

Kafka messages, answers of agents and models, declarations and arguments of commands are read by the
same rules: a number keeps its value or is refused by name, and what comes out can be stored.
"""

import json
import math
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import orjson
from pydantic import JsonValue

JsonObject = dict[str, JsonValue]

MIN_INTEGER, MAX_INTEGER = -(2**63), 2**64 - 1
"""Beyond these PostgreSQL keeps a number, and orjson does not read it back as it was, or at all."""
MAX_DEPTH = 64

_BOM = b"\xef\xbb\xbf"
_SHOWN_CHARACTERS = 80
_EXACT_DIGITS = 15
"""A number of so many significant digits survives as a double, whatever they are."""
_MOST_DIGITS = 767
"""No double has more; a longer number can't be one."""

# Numbers that orjson may change without a word: 19 digits, 16 with a fraction or an exponent, an
# exponent of three. Only where a number can begin: long digits inside a text are common, and
# harmless.
_DOUBTFUL_NUMBER = re.compile(
    rb"(?:^|[\[:,\s])-?\d(?:\d{18}|(?=[\d.]{16})\d*\.|\d{15,}[eE]|[\d.]*[eE][+-]?\d{3})"
)
_SURROGATE_OR_NUL = re.compile("[\x00\ud800-\udfff]")

_OTHER_FORMATS = (
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
    (b"{\x00", "UTF-16"),
    (b"\x00{", "UTF-16"),
    (b"\x1f\x8b", "compressed with gzip"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
    (b"\xac\xed\x00\x05", "a serialized Java object"),
    (b"\x80\x04\x95", "a pickled Python object"),
    (b"\x80\x05\x95", "a pickled Python object"),
    (b"Obj\x01", "an Avro file"),
    (b"\xc3\x01", "an Avro single object"),
    (b"<", "HTML or XML"),
)
"""How values begin that are no JSON and that people send all the same."""


class UnreadableJson(ValueError):
    """What is wrong with a text that should be JSON; `reason` is a dead letter's."""

    def __init__(self, reason: str, text: str, *, is_number: bool = False) -> None:
        super().__init__(text)
        self.reason = reason
        self.is_number = is_number
        """It is JSON, with a number whose digits would be lost."""


def read_json(data: bytes | str, *, max_depth: int = MAX_DEPTH) -> JsonValue:
    """The value, each number as it was written.

    A byte order mark is passed over. NUL characters and lone surrogates, which PostgreSQL can't
    hold, become U+FFFD.

    Raises:
        UnreadableJson: `invalid_json`, `invalid_utf8` or `too_deep`.
    """
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    raw = raw.removeprefix(_BOM)
    if not raw.strip():
        raise UnreadableJson("invalid_json", "not JSON: empty")
    # orjson changes some numbers without a word.
    document = None if _DOUBTFUL_NUMBER.search(raw) else _read_fast(raw)
    if document is not None:
        is_clean = b"\\u0000" not in raw
    else:
        document, is_clean = _read_careful(raw, max_depth=max_depth), b"\\u" not in raw
    # No deeper than it has brackets: most values need no walk.
    if raw.count(b"[") + raw.count(b"{") > max_depth and _is_deeper(document, max_depth):
        raise _too_deep(max_depth)
    return document if is_clean else _clean(document)


def read_loosely(text: str) -> Any:
    """The value of JSON in which texts may hold control characters.

    In the place of a number that would be changed stands what `storable` refuses by name.

    Raises:
        ValueError, RecursionError: it is no JSON.
    """
    return json.loads(
        text, strict=False, parse_int=_integer, parse_float=_fraction, parse_constant=_constant
    )


def storable(value: Any, *, path: tuple[str | int, ...] = ()) -> Any:
    """A value that another library parsed, by the same rules as far as they still can be kept.

    Raises:
        UnreadableJson: a number that can't be stored, or more than `MAX_DEPTH` levels.
    """
    if len(path) > MAX_DEPTH:
        raise _too_deep(MAX_DEPTH)
    match value:
        case str():
            return clean_text(str(value))
        case dict():
            return {
                _name(name): storable(child, path=(*path, str(name)))
                for name, child in value.items()
            }
        case list():
            return [storable(child, path=(*path, index)) for index, child in enumerate(value)]
        case float() if not math.isfinite(value):
            raise _unkept(path, f"{value} is not JSON: send null or a text")
        case int() if not MIN_INTEGER <= value <= MAX_INTEGER:
            raise _unkept(path, _beyond_64_bits(str(Decimal(value))))
        case _Unkept():
            raise _unkept(path, value.text)
        case _:
            return value


def read_number(digits: str) -> int | float:
    """The number that these digits are.

    Raises:
        UnreadableJson: its digits would be lost.
    """
    is_integer = digits.lstrip("-").isdigit()
    found = _integer(digits) if is_integer else _fraction(digits)
    if isinstance(found, _Unkept):
        raise _unkept((), found.text)
    return found


def dumped(value: JsonValue) -> str:
    """The value as compact JSON text."""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # an integer of more than 64 bits, which JSON allows
        return json.dumps(value, separators=(",", ":"))


def clean_text(text: str) -> str:
    """The text with U+FFFD in place of what PostgreSQL refuses: NUL, and half a surrogate pair."""
    return _SURROGATE_OR_NUL.sub("\ufffd", text)


def is_storable(text: str) -> bool:
    """Whether PostgreSQL takes the text as it is."""
    return _SURROGATE_OR_NUL.search(text) is None


def path_text(path: Sequence[str | int]) -> str:
    """`("items", 0, "name")` as `items[0].name`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


class _Unkept:
    """Stands in a document where a number stood that can't be kept."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text


def _read_fast(raw: bytes) -> JsonValue | None:
    try:
        document: JsonValue = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    return document


def _read_careful(raw: bytes, *, max_depth: int) -> JsonValue:
    """Reads what orjson refuses: for lone surrogates, and to say what is wrong with the rest."""
    text = _decoded(raw)
    unkept: list[_Unkept] = []

    def noted(number: float | _Unkept) -> float | _Unkept:
        if isinstance(number, _Unkept):
            unkept.append(number)
        return number

    try:
        document: JsonValue = json.loads(
            text,
            parse_int=lambda digits: noted(_integer(digits)),
            parse_float=lambda digits: noted(_fraction(digits)),
            parse_constant=lambda name: noted(_constant(name)),
        )
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        what = f"not JSON: {_named(raw, error.msg)} ({where})"
        raise UnreadableJson("invalid_json", what) from error
    except RecursionError as error:
        raise _too_deep(max_depth) from error
    if unkept:
        places = [] if _is_deeper(document, max_depth) else _leaves(document, ())
        path = next((path for path, value in places if value is unkept[0]), ())
        raise _unkept(path, unkept[0].text)
    return document


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"byte 0x{raw[error.start]:02x} at position {error.start}"
        raise UnreadableJson("invalid_utf8", f"not UTF-8: {_named(raw, found)}") from error


def _named(raw: bytes, otherwise: str) -> str:
    start = raw.lstrip()[:8]
    kinds = (kind for prefix, kind in _OTHER_FORMATS if start.startswith(prefix))
    kind = next(kinds, None)
    return otherwise if kind is None else f"it is {kind}; {otherwise}"


def _integer(digits: str) -> int | _Unkept:
    # Twenty digits and a sign hold every 64-bit integer; longer ones are slow to convert.
    if len(digits) > len("-18446744073709551615"):
        return _Unkept(_beyond_64_bits(digits))
    number = int(digits)
    return number if MIN_INTEGER <= number <= MAX_INTEGER else _Unkept(_beyond_64_bits(digits))


def _fraction(digits: str) -> float | _Unkept:
    number = float(digits)
    if repr(number) == digits:
        return number
    if math.isinf(number):
        return _Unkept(
            f"the number {_short(digits)} is larger than a double can be: send it as a text"
        )
    if not _holds(number, digits):
        return _Unkept(
            f"the number {_short(digits)} has digits that a double does not keep: send it as a text"
        )
    return number


def _holds(number: float, digits: str) -> bool:
    """Whether the double, written with as many digits, is the number that was written."""
    mantissa = re.split("[eE]", digits)[0].lstrip("-").replace(".", "").strip("0")
    if not mantissa:
        return True
    if number == 0 or len(mantissa) > _MOST_DIGITS:
        return False
    if len(mantissa) <= _EXACT_DIGITS and abs(number) > 1e-290:
        return True
    return Decimal(f"{number:.{len(mantissa) - 1}e}") == Decimal(digits)


def _constant(name: str) -> _Unkept:
    return _Unkept(f"{name} is not JSON: send null or a text")


def _beyond_64_bits(digits: str) -> str:
    return f"the integer {_short(digits)} does not fit into 64 bits: send it as a text"


def _short(digits: str) -> str:
    return digits if len(digits) <= _SHOWN_CHARACTERS else f"{digits[: _SHOWN_CHARACTERS - 1]}…"


def _unkept(path: Sequence[str | int], text: str) -> UnreadableJson:
    where = clean_text(path_text(path))
    where = where if len(where) <= _SHOWN_CHARACTERS else f"{where[: _SHOWN_CHARACTERS - 1]}…"
    return UnreadableJson("invalid_json", f"{where}: {text}" if where else text, is_number=True)


def _too_deep(max_depth: int) -> UnreadableJson:
    return UnreadableJson("too_deep", f"nested too deeply: expected at most {max_depth} levels")


def _is_deeper(value: JsonValue, max_depth: int) -> bool:
    level = _containers([value])
    for _ in range(max_depth):
        if not level:
            return False
        level = [
            inner
            for outer in level
            for inner in _containers(outer.values() if isinstance(outer, dict) else outer)
        ]
    return bool(level)


def _containers(values: Iterable[JsonValue]) -> list[dict[str, JsonValue] | list[JsonValue]]:
    return [value for value in values if isinstance(value, dict | list)]


def _leaves(value: Any, path: tuple[str | int, ...]) -> Iterable[tuple[tuple[str | int, ...], Any]]:
    if isinstance(value, dict | list):
        pairs: Iterable[tuple[str | int, Any]] = (
            value.items() if isinstance(value, dict) else enumerate(value)
        )
        for part, child in pairs:
            yield from _leaves(child, (*path, part))
    else:
        yield path, value


def _name(name: Any) -> Any:
    return clean_text(name) if isinstance(name, str) else name


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


__all__ = [
    "MAX_DEPTH",
    "MAX_INTEGER",
    "MIN_INTEGER",
    "JsonObject",
    "JsonValue",
    "UnreadableJson",
    "clean_text",
    "dumped",
    "is_storable",
    "path_text",
    "read_json",
    "read_loosely",
    "read_number",
    "storable",
]
