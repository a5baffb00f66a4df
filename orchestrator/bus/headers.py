"""Kafka headers ⇄ text that JSON and PostgreSQL can keep, without loss.

A value that is text stays as it is; any other becomes `base64:…`, a missing one `null:`.
"""

import base64
import binascii
from collections.abc import Iterable

from orchestrator.domain.json import clean_text, is_storable

Headers = tuple[tuple[str, str], ...]
"""Names and values as text, in their order; a name may come twice."""

BASE64 = "base64:"
NULL = "null:"


def headers_to_text(headers: Iterable[tuple[str, bytes | None]]) -> Headers:
    return tuple((clean_text(name), _to_text(value)) for name, value in headers)


def headers_to_bytes(headers: Iterable[tuple[str, str]]) -> list[tuple[str, bytes | None]]:
    """What `headers_to_text` was given."""
    return [(name, _to_bytes(value)) for name, value in headers]


def first(headers: Headers, name: str) -> str | None:
    """The value of the first header of this name; case matters not."""
    wanted = name.lower()
    return next((value for key, value in headers if key.lower() == wanted), None)


def _to_text(value: bytes | None) -> str:
    if value is None:
        return NULL
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        return BASE64 + base64.b64encode(value).decode()
    if text.startswith((BASE64, NULL)) or not is_storable(text):
        return BASE64 + base64.b64encode(value).decode()
    return text


def _to_bytes(text: str) -> bytes | None:
    if text == NULL:
        return None
    if text.startswith(BASE64):
        try:
            return base64.b64decode(text.removeprefix(BASE64), validate=True)
        except binascii.Error:
            pass  # nobody but a person wrote this: it means itself
    return text.encode()
