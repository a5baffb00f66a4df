"""Reads an answer's body without trusting it: bounded after decompression, and in its nesting."""

import re
import zlib

import httpx
import orjson

from orchestrator.domain.errors import AgentFailed
from orchestrator.domain.json import JsonValue

ACCEPT_ENCODING = "gzip"

# A NUL as JSON writes it, and not as the tail of an escaped backslash.
_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")


async def read_body(response: httpx.Response, *, max_bytes: int) -> bytes:
    """The decompressed body. Never holds more than `max_bytes` of it and one chunk of input.

    Raises `AgentFailed` when it is larger, cut off, or compressed in a way that was not asked for.
    """
    inflate = _decompressor(response.headers.get("content-encoding"))
    body = bytearray()
    async for chunk in response.aiter_raw():
        # One byte more than allowed is enough to know that there is more.
        body += inflate.decompress(chunk, max_bytes + 1 - len(body)) if inflate else chunk
        if len(body) > max_bytes:
            raise AgentFailed(f"the answer is larger than {max_bytes} bytes", retryable=False)
    if inflate and not inflate.eof:
        raise AgentFailed("the answer's gzip stream is cut off", retryable=False)
    return bytes(body)


class _Inflate:
    """`zlib.decompressobj`, with its error as ours."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    def decompress(self, chunk: bytes, max_length: int) -> bytes:
        try:
            return self._stream.decompress(chunk, max_length)
        except zlib.error as error:
            raise AgentFailed(f"the answer can't be decompressed: {error}", retryable=False) from error


def _decompressor(encoding: str | None) -> _Inflate | None:
    match (encoding or "identity").strip().lower():
        case "identity":
            return None
        case "gzip" | "x-gzip" | "deflate":
            return _Inflate()
        case other:
            raise AgentFailed(
                f"the answer has the content encoding {other!r}; expected {ACCEPT_ENCODING} or none",
                retryable=False,
            )


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
    level: list[JsonValue] = [value]
    for _ in range(max_depth + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True
