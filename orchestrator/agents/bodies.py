"""Reads an answer's body without trusting it: whole or not at all, and bounded once inflated."""

import codecs
import zlib

import httpx

from orchestrator.domain.errors import UnusableAnswer

ACCEPT_ENCODING = "gzip"

_PLAIN = ("", "identity", "utf-8")
"""Content encodings that encode nothing; the last one is a mistake that servers make."""
_CHARSETS = ("iso8859", "cp125", "utf-16", "utf-32")


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
    """The decompressed body, in UTF-8. Never holds more than `max_bytes` and one chunk of input.

    Raises `UnusableBody` when it is larger, cut off, or compressed in a way nobody asked for.
    """
    inflate = _inflater(response.headers.get("content-encoding"))
    body = bytearray()
    async for chunk in response.aiter_raw():
        # One byte more than allowed is enough to know that there is more.
        body += inflate.inflate(chunk, max_bytes + 1 - len(body)) if inflate else chunk
        if len(body) > max_bytes:
            raise UnusableBody(f"more than {max_bytes} bytes")
    if inflate and not inflate.is_complete:
        raise UnusableBody("a compressed body that is cut off")
    return _in_utf8(bytes(body), charset=response.charset_encoding)


def _inflater(encoding: str | None) -> "_Inflater | None":
    codings = [name.strip().lower() for name in (encoding or "").split(",")]
    match [name for name in codings if name not in _PLAIN]:
        case []:
            return None
        case ["gzip" | "x-gzip" | "deflate"]:
            return _Inflater()
        case _:
            raise UnusableBody(f"in content encoding {encoding!r}; expected gzip or none")


class _Inflater:
    """gzip or zlib. A gzip body may have several members, one after the other, and zeros behind."""

    def __init__(self) -> None:
        self._member = _new_member()
        self._has_member = False

    @property
    def is_complete(self) -> bool:
        """Whether it ends where a member ends."""
        return self._has_member

    def inflate(self, chunk: bytes, most: int) -> bytes:
        """At most so many bytes of what it holds; more than that is for the caller to refuse."""
        found = b""
        try:
            while chunk and len(found) < most:
                if self._has_member:
                    chunk = chunk.lstrip(b"\0")
                    if not chunk:
                        break
                    self._member, self._has_member = _new_member(), False
                found += self._member.decompress(chunk, most - len(found))
                self._has_member = self._member.eof
                chunk = self._member.unused_data
        except zlib.error as error:
            raise UnusableBody(f"a body that can't be decompressed ({error})") from error
        return found


def _new_member() -> "zlib._Decompress":
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)


def _in_utf8(body: bytes, *, charset: str | None) -> bytes:
    """The body in UTF-8, where it is in another charset and says in which.

    JSON is UTF-8 by its standard, whatever the header says: some servers name a default there.
    """
    try:
        name = codecs.lookup(charset or "utf-8").name
        is_wide = name.startswith(("utf-16", "utf-32"))
        if not name.startswith(_CHARSETS) or (not is_wide and _is_utf8(body)):
            return body
        return body.decode(name).encode()
    except LookupError:
        return body
    except UnicodeDecodeError as error:
        raise UnusableBody(f"a body that is not in its charset {charset!r}") from error


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True
