"""What a caller over HTTP does beyond the common contract: statuses, limits, headers, signature."""

import asyncio
import gzip
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from orchestrator.agents.callers.http_json import HttpCaller
from orchestrator.agents.http import agent_http_client
from orchestrator.domain.call import CallStatus
from orchestrator.domain.fault import Fault
from orchestrator.domain.ids import TaskId
from tests.fakes.agent import Behaviour, gzip_bomb, ok, status
from tests.fakes.callers import UnderTest, call_request, http_under_test
from tests.fakes.unconnected import full_backlog

MEGABYTE = 1024**2
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
async def http() -> AsyncIterator[UnderTest]:
    async with http_under_test() as it:
        yield it


@pytest.mark.parametrize("code", [408, 425, 429, 500, 502, 503, 504, 599])
async def test_a_status_that_may_pass_is_retryable(http: UnderTest, code: int) -> None:
    http.peer.will(status(code))
    result = await http.call()
    assert (result.status, result.retryable) == (CallStatus.ERROR, True)
    assert result.error == f"agent 'crm' answered HTTP {code}"


@pytest.mark.parametrize("code", [400, 401, 403, 404, 409, 410, 413, 415, 422, 451])
async def test_any_other_refusal_is_final(http: UnderTest, code: int) -> None:
    http.peer.will(status(code))
    result = await http.call()
    assert (result.status, result.retryable) == (CallStatus.ERROR, False)


async def test_a_conflict_that_says_when_is_retryable(http: UnderTest) -> None:
    http.peer.will(status(409, Retry_After="3"))
    result = await http.call()
    assert (result.retryable, result.retry_after_seconds) == (True, 3.0)


async def test_retry_after_may_be_a_date(http: UnderTest) -> None:
    at = datetime.now(UTC) + timedelta(seconds=90)
    http.peer.will(status(503, Retry_After=format_datetime(at, usegmt=True)))
    wait = (await http.call()).retry_after_seconds
    assert wait is not None
    assert 80 < wait <= 90


@pytest.mark.parametrize("value", ["soon", "-5", "", "1e400", "Sun, 99 Nov 2026 99:99:99 GMT"])
async def test_an_unreadable_retry_after_is_none(http: UnderTest, value: str) -> None:
    http.peer.will(status(503, Retry_After=value))
    result = await http.call()
    assert (result.retryable, result.retry_after_seconds) == (True, None)


@pytest.mark.parametrize(
    "body",
    [
        '{"status": "error", "error_message": "too busy"}',
        '{"type": "about:blank", "title": "Busy", "detail": "too busy"}',
        "too busy",
        "<html>",
    ],
)
async def test_a_refusal_is_told_in_the_agents_words(http: UnderTest, body: str) -> None:
    http.peer.will(status(400, body=body))
    said = "<html>" if body == "<html>" else "too busy"
    assert (await http.call()).error == f"agent 'crm' answered HTTP 400: {said}"


@pytest.mark.parametrize("size", [100_000, 10 * MEGABYTE])
async def test_a_long_error_page_is_not_read(http: UnderTest, size: int) -> None:
    http.peer.will(status(400, body="x" * size))
    result = await http.call()
    assert (result.error, result.retryable) == ("agent 'crm' answered HTTP 400", False)


async def test_an_answer_that_is_not_http_is_final(http: UnderTest) -> None:
    async def nonsense(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 smtp.example ready\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(nonsense, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        http.agent = replace(http.agent, endpoint=f"http://127.0.0.1:{port}")
        result = await http.call()
    assert result.error is not None
    assert "sent something that is not an HTTP answer" in result.error
    assert result.retryable is False


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(http: UnderTest, code: int) -> None:
    http.peer.will(status(code, Location=f"{http.peer.url}/elsewhere/execute"))
    result = await http.call()
    assert result.error == f"agent 'crm' answered HTTP {code}; redirects are not followed"
    assert (result.retryable, len(http.peer.received)) == (False, 1)


async def test_cookies_are_not_kept(http: UnderTest) -> None:
    http.peer.will(status(200, body=ok().body, Set_Cookie="session=1; Path=/"))
    await http.call()
    await http.call(call=3)
    assert "cookie" not in http.peer.received[1].headers


@pytest.mark.parametrize("kind", ["reset", "cut_off"])
async def test_a_broken_connection_is_retryable(http: UnderTest, kind: str) -> None:
    http.peer.will(Behaviour(kind=kind))  # type: ignore[arg-type]
    result = await http.call()
    assert (result.status, result.retryable, result.was_sent) == (CallStatus.ERROR, True, True)
    assert result.error is not None
    assert "failed before its answer was complete" in result.error


async def test_a_call_for_which_no_connection_came_about_was_not_sent(http: UnderTest) -> None:
    async with full_backlog() as url:
        agents = [replace(http.agent, endpoint=to) for to in (url, "http://127.0.0.1:1")]
        results = [
            await http.caller.call(call_request(agent=agent, timeout_seconds=0.5))
            for agent in agents
        ]
    for result in results:
        assert (result.was_sent, result.retryable) == (False, True)
        assert result.fault is Fault.UNAVAILABLE
        assert "failed before anything was sent" in (result.error or "")


async def test_a_connection_that_the_end_of_a_task_cut_short_says_nothing(http: UnderTest) -> None:
    async with full_backlog() as url:
        agent = replace(http.agent, endpoint=url)
        request = call_request(agent=agent, timeout_seconds=0.2, is_cut_short=True)
        result = await http.caller.call(request)
    assert (result.is_cut_short, result.fault) == (True, None)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ('{"status": "success", "output": {"x": NaN}}', "not JSON"),
        ('{"status": "success", "output": {"x": 18446744073709551617}}', "output.x: the integer"),
        ("[]", "contract"),
        ('{"output": {}}', "contract: status"),
        ('{"status": "done"}', "contract: status"),
        ('{"status": "success", "output": []}', "contract: output"),
        ('{"status": "error", "retryable": "yes"}', "contract: retryable"),
        ('{"status": "success", "output": {"x": ' + "[" * 70 + "]" * 70 + "}}", "64 levels"),
    ],
)
async def test_an_unusable_body_is_final(http: UnderTest, body: str, problem: str) -> None:
    http.peer.will(status(200, body=body))
    result = await http.call()
    assert (result.status, result.retryable) == (CallStatus.ERROR, False)
    assert result.error is not None
    assert problem in result.error


async def test_what_postgresql_cannot_store_is_replaced(http: UnderTest) -> None:
    http.peer.will(status(200, body='{"status": "success", "output": {"x": "a\\u0000\\\\u0000"}}'))
    assert (await http.call()).output == {"x": "a\ufffd\\u0000"}


@pytest.mark.parametrize("kind", ["huge", "gzip_bomb"])
async def test_a_body_too_large_is_refused_in_bounded_memory(http: UnderTest, kind: str) -> None:
    gzip_bomb(200 * MEGABYTE)
    http.peer.will(Behaviour(kind=kind, size=200 * MEGABYTE))  # type: ignore[arg-type]
    tracemalloc.start()
    try:
        result = await http.call(timeout_seconds=60)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert result.error == "agent 'crm' answered more than 5000000 bytes"
    assert (result.retryable, peak < 16 * MEGABYTE) == (False, True)


async def test_the_size_cap_is_exact() -> None:
    body = ok({"customer_id": "C-1"}).body
    for cap, expected in ((len(body), CallStatus.SUCCESS), (len(body) - 1, CallStatus.ERROR)):
        async with http_under_test(max_body_bytes=cap) as http:
            http.peer.will(status(200, body=body))
            assert (await http.call()).status == expected


async def test_an_encoding_that_was_not_asked_for_is_refused(http: UnderTest) -> None:
    http.peer.will(status(200, body="x", Content_Encoding="br"))
    result = await http.call()
    assert result.error == "agent 'crm' answered in content encoding 'br'; expected gzip or none"


@pytest.mark.parametrize(
    "content", [gzip.compress(b"{}" * 500)[:-9], b"\x1f\x8bnonsense"], ids=["cut off", "nonsense"]
)
async def test_a_damaged_compression_is_final(http: UnderTest, content: bytes) -> None:
    http.peer.will(Behaviour(raw=content, headers={"Content-Encoding": "gzip"}))
    result = await http.call()
    assert (result.status, result.retryable) == (CallStatus.ERROR, False)


async def test_a_compressed_answer_is_read(http: UnderTest) -> None:
    content = gzip.compress(ok({"customer_id": "C-1"}).body.encode())
    http.peer.will(Behaviour(raw=content, headers={"Content-Encoding": "gzip"}))
    assert (await http.call()).output == {"customer_id": "C-1"}


async def test_the_request_says_all_that_the_contract_promises(http: UnderTest) -> None:
    await http.call(traceparent=TRACEPARENT, timeout_seconds=30.0)
    sent = http.peer.received[0]
    assert (sent.method, sent.path, sent.key) == ("POST", "/execute", "t-1/3/2")
    assert sent.body == {
        "execution_id": "t-1",
        "node_id": "3/2",
        "input": {"name": "ACME"},
        "config": {"region": "eu"},
    }
    assert (sent.headers["traceparent"], sent.headers["x-task-epoch"]) == (TRACEPARENT, "7")
    left = datetime.fromisoformat(sent.headers["x-deadline"]) - datetime.now(UTC)
    assert timedelta(seconds=25) < left <= timedelta(seconds=30)
    assert "webhook-signature" not in sent.headers


async def test_who_undoes_a_call_is_told_its_key(http: UnderTest) -> None:
    await http.call(compensates="t-1/2/1")
    assert http.peer.received[0].body["compensates"] == "t-1/2/1"


async def test_a_traceparent_that_is_none_is_not_sent_on(http: UnderTest) -> None:
    await http.call(traceparent="00-x\r\nX-Admin: 1")
    assert {"traceparent", "x-admin"}.isdisjoint(http.peer.received[0].headers)


async def test_a_task_id_of_any_characters_makes_a_key_of_its_own(http: UnderTest) -> None:
    for task_id in ("Zürich\r\nX-Admin: 1", "Z%C3%BCrich", "Zürich", " Zürich"):
        await http.call(task_id=TaskId(task_id))
    assert len({received.key for received in http.peer.received}) == 4
    assert "x-admin" not in http.peer.received[0].headers


async def test_requests_are_signed_where_the_agent_has_a_secret(http: UnderTest) -> None:
    http.environ["CRM_SECRET"] = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    http.agent = replace(http.agent, secret_env="CRM_SECRET")
    await http.call()
    headers = http.peer.received[0].headers
    assert headers["webhook-id"] == "t-1/3/2"
    assert headers["webhook-signature"].startswith("v1,")


@pytest.mark.parametrize("value", [None, "", "not base64!", "whsec_c2hvcnQ="])
async def test_a_missing_or_bad_secret_sends_nothing(http: UnderTest, value: str | None) -> None:
    if value is not None:
        http.environ["CRM_SECRET"] = value
    http.agent = replace(http.agent, secret_env="CRM_SECRET")
    result = await http.call()
    assert (result.status, result.retryable) == (CallStatus.ERROR, False)
    assert "CRM_SECRET" in (result.error or "")
    assert not value or value not in (result.error or "")
    assert http.peer.received == []


async def test_a_worker_that_lost_its_lease_sends_nothing(http: UnderTest) -> None:
    async with agent_http_client() as client:
        caller = HttpCaller(client, environ={}, may_send=lambda: False)
        result = await caller.call(call_request(agent=http.agent))
    assert (result.status, result.retryable) == (CallStatus.ERROR, True)
    assert http.peer.received == []


async def test_the_proxy_of_the_environment_is_not_used(
    http: UnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    async with agent_http_client() as client:
        result = await HttpCaller(client, environ={}).call(call_request(agent=http.agent))
    assert result.status == CallStatus.SUCCESS


@pytest.mark.parametrize("endpoint", ["ftp://127.0.0.1", "http://", "crm:8080", "", "http://a:b"])
async def test_an_endpoint_that_is_no_url_is_an_error(http: UnderTest, endpoint: str) -> None:
    http.agent = replace(http.agent, endpoint=endpoint)
    result = await http.call()
    assert (result.status, result.retryable) == (CallStatus.ERROR, False)


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/status?key={key}", "/status?key=t%261/3/2"),
        ("/status/{key}", "/status/t&1%2F3%2F2"),
    ],
)
async def test_the_status_url_may_hold_the_key(http: UnderTest, path: str, asked: str) -> None:
    http.agent = replace(http.agent, status_url=f"{http.peer.url}{path}")
    await http.status(task_id=TaskId("t&1"))
    assert http.peer.received[0].path == asked


async def test_without_a_status_url_nothing_can_be_learned(http: UnderTest) -> None:
    http.agent = replace(http.agent, status_url=None)
    result = await http.status()
    assert result is not None
    assert result.error == "agent 'crm' has no status_url to ask"
    assert (result.is_unsure, result.retryable) == (True, False)


async def test_an_agent_that_still_works_on_a_call_says_when_to_ask_again(http: UnderTest) -> None:
    http.peer.status = status(202, Retry_After="30")
    result = await http.status()
    assert result is not None
    assert (result.retryable, result.retry_after_seconds) == (True, 30)
    assert result.error == "agent 'crm' still works on it"


async def test_the_cancel_url_is_told_which_call_it_is(http: UnderTest) -> None:
    agent = replace(http.agent, cancel_url=f"{http.peer.url}/cancel/{{key}}")
    assert await http.caller.cancel(call_request(agent=agent))
    told = http.peer.received[-1]
    assert (told.method, told.path, told.key) == ("POST", "/cancel/t-1%2F3%2F2", "t-1/3/2")
    assert told.body == {"execution_id": "t-1", "node_id": "3/2"}


@pytest.mark.parametrize("answer", [status(404), status(500), Behaviour(kind="reset")])
async def test_an_agent_that_did_not_hear_of_a_cancel_is_no_error(
    http: UnderTest, answer: Behaviour
) -> None:
    http.peer.on_cancel = answer
    agent = replace(http.agent, cancel_url=f"{http.peer.url}/cancel")
    assert not await http.caller.cancel(call_request(agent=agent))
