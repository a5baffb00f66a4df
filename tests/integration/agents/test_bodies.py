"""An answer that is valid and unusual on the wire is read whole, or refused, never in part."""

import gzip
import json
import zlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from orchestrator.agents.http import model_http_client
from orchestrator.domain.call import CallResult, CallStatus
from tests.fakes.callers import UnderTest, http_under_test
from tests.integration.planners.stub import serving

OUTPUT = {"customer_id": "C-é", "notes": ["x" * 40] * 40}
BODY = json.dumps({"status": "success", "output": OUTPUT}, ensure_ascii=False)
PLAIN = BODY.encode()
HALVES = PLAIN[:700], PLAIN[700:]
MEMBERS = b"".join(gzip.compress(half) for half in HALVES)


def answer(body: bytes, *fields: str, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    head = "\r\n".join(("HTTP/1.1 200 OK", f"content-length: {size}", *fields))
    return f"{head}\r\n\r\n".encode() + body


def chunked(body: bytes, *fields: str, size: int = 7, end: bytes = b"0\r\n\r\n") -> bytes:
    head = "\r\n".join(("HTTP/1.1 200 OK", "transfer-encoding: chunked", *fields))
    pieces = [body[n : n + size] for n in range(0, len(body), size)]
    return (
        f"{head}\r\n\r\n".encode() + b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + end
    )


GZIP, CLOSE = "content-encoding: gzip", "connection: close"
MANY = b"".join(gzip.compress(PLAIN[n : n + 9]) for n in range(0, len(PLAIN), 9))


def in_charset(body: bytes, charset: str) -> bytes:
    return answer(body, f"content-type: application/json; charset={charset}")


READ = {
    "two members": answer(MEMBERS, GZIP),
    "two members in small chunks": chunked(MEMBERS, GZIP, size=1),
    "an empty member at the end": answer(MEMBERS + gzip.compress(b""), GZIP),
    "zeros after the last member": answer(MEMBERS + bytes(512), GZIP),
    "a member for nine bytes": answer(MANY, GZIP),
    "deflate": answer(zlib.compress(PLAIN), "content-encoding: deflate"),
    "identity and gzip": answer(gzip.compress(PLAIN), "content-encoding: identity, gzip"),
    "UTF-8 as its encoding": answer(PLAIN, "content-encoding: UTF-8"),
    "chunks with a trailer": chunked(PLAIN, "trailer: x", end=b"0;a=b\r\nx: y\r\n\r\n"),
    "Latin-1 that says so": in_charset(BODY.encode("latin-1"), "ISO-8859-1"),
    "UTF-8 that is called Latin-1": in_charset(PLAIN, "ISO-8859-1"),
    "UTF-16 that says so": in_charset(BODY.encode("utf-16"), "utf-16"),
    "a charset of nobody": in_charset(PLAIN, "zzz"),
    "a byte order mark": answer(b"\xef\xbb\xbf" + PLAIN),
    "no length": b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + PLAIN,
}  # fmt: skip
REFUSED = {
    "a second member that is cut off": (answer(MEMBERS[:-9], GZIP), "cut off"),
    "something else after the member": (answer(gzip.compress(PLAIN) + b"{}", GZIP), "decompressed"),
    "gzip twice": (answer(PLAIN, "content-encoding: gzip, gzip"), "content encoding 'gzip, gzip'"),
    "zstd": (answer(PLAIN, "content-encoding: zstd"), "content encoding 'zstd'"),
    "less than its length": (answer(PLAIN, CLOSE, length=len(PLAIN) + 1), "failed"),
    "more than its length": (answer(PLAIN, length=len(PLAIN) - 1), "not an HTTP answer"),
    "chunks without an end": (chunked(PLAIN, CLOSE, end=b""), "failed"),
    "Latin-1 that does not say so": (answer(BODY.encode("latin-1")), "not UTF-8"),
    "two answers in one": (answer(PLAIN + PLAIN), "Extra data"),
    "not in its charset": (in_charset(b"\xff", "utf-16"), "its charset"),
}  # fmt: skip


@pytest.fixture
async def http() -> AsyncIterator[UnderTest]:
    async with http_under_test() as it:
        yield it


async def called(http: UnderTest, wire: bytes) -> CallResult:
    async with serving(wire) as stub:
        http.agent = replace(http.agent, endpoint=stub.url)
        return await http.call()


@pytest.mark.parametrize("wire", READ.values(), ids=READ.keys())
async def test_a_valid_body_is_read_whole(http: UnderTest, wire: bytes) -> None:
    result = await called(http, wire)
    assert (result.status, result.error, result.output) == (CallStatus.SUCCESS, None, OUTPUT)


@pytest.mark.parametrize(("wire", "says"), REFUSED.values(), ids=REFUSED.keys())
async def test_a_body_in_part_is_refused(http: UnderTest, wire: bytes, says: str) -> None:
    result = await called(http, wire)
    assert result.status == CallStatus.ERROR
    assert says in (result.error or "")


@pytest.mark.parametrize("wire", READ.values(), ids=READ.keys())
async def test_the_models_answer_is_read_by_the_same_rules(wire: bytes) -> None:
    async with serving(wire) as stub, model_http_client(timeout_seconds=5) as client:
        found = await client.post(stub.url, content=b"{}")
    assert found.json()["output"] == OUTPUT
