"""Reads an answer's body without trusting it: bounded after decompression, and in its nesting."""

import re
import zlib
from collections.abc import Iterable

import httpx
import orjson

from orchestrator.domain.errors import UnusableAnswer
from orchestrator.domain.json import JsonValue

ACCEPT_ENCODING = "gzip"

# A NUL as JSON writes it, and not as the tail of an escaped backslash.
_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")


class UnusableBody(Exception):
    """Says what a peer answered instead of a body that can be read."""


async def read_body(response: httpx.Response, *, agent_id: str, max_bytes: int) -> bytes:
    """The decompressed body of an agent's answer, as `bounded_body` reads it.

    Raises `UnusableAnswer` when it is larger, cut off, or compressed in a way nobody asked for.
    """
    try:
        return await bounded_body(response, max_bytes=max_bytes)
    except UnusableBody as error:
        raise UnusableAnswer(f"agent {agent_id!r} answered {error}") from error


async def bounded_body(response: httpx.Response, *, max_bytes: int) -> bytes:
    """The decompressed body. Never holds more than `max_bytes` of it and one chunk of input.

    Raises `UnusableBody` when it is larger, cut off, or compressed in a way nobody asked for.
    """
    inflate = _decompressor(response.headers.get("content-encoding"))
    body = bytearray()
    async for chunk in response.aiter_raw():
        try:
            # One byte more than allowed is enough to know that there is more.
            body += inflate.decompress(chunk, max_bytes + 1 - len(body)) if inflate else chunk
        except zlib.error as error:
            raise UnusableBody(f"a body that can't be decompressed ({error})") from error
        if len(body) > max_bytes:
            raise UnusableBody(f"more than {max_bytes} bytes")
    if inflate and not inflate.eof:
        raise UnusableBody("a compressed body that is cut off")
    return bytes(body)


def _decompressor(encoding: str | None) -> "zlib._Decompress | None":
    match (encoding or "identity").strip().lower():
        case "identity":
            return None
        case "gzip" | "x-gzip" | "deflate":
            return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
        case other:
            raise UnusableBody(f"in content encoding {other!r}; expected gzip or none")


def parse_json(body: bytes, *, max_depth: int) -> JsonValue:
    """The body as strict JSON (no NaN, no lone surrogates) of at most `max_depth` levels.

    PostgreSQL can't store a NUL, so it becomes U+FFFD. Raises `ValueError` that says what is wrong.
    """
    if b"\\u0000" in body:
        body = _NUL.sub(rb"\1\\ufffd", body)
    value: JsonValue = orjson.loads(body)
    # Fewer brackets than levels allowed: it can't be too deep, and needs no walk.
    if body.count(b"{") + body.count(b"[") > max_depth and _is_deeper(value, max_depth):
        raise ValueError(f"it is nested deeper than {max_depth} levels")
    return value


def _is_deeper(value: JsonValue, max_depth: int) -> bool:
    level = _containers([value])
    for _ in range(max_depth):
        level = [
            inner
            for outer in level
            for inner in _containers(outer.values() if isinstance(outer, dict) else outer)
        ]
    return bool(level)


def _containers(values: Iterable[JsonValue]) -> list[dict[str, JsonValue] | list[JsonValue]]:
    return [value for value in values if isinstance(value, dict | list)]
