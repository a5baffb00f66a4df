"""The chat model through the real `ChatOpenAI` and a real socket: payload, answers, failures."""

import gzip
import json
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from langchain_openai import ChatOpenAI

from orchestrator.agents.http import MAX_MODEL_ANSWER_BYTES, model_http_client
from orchestrator.domain.decision import Delegate, Usage
from orchestrator.domain.fault import Fault
from orchestrator.domain.snapshot import Snapshot
from orchestrator.planners.agentic.planner import AgenticPlanner
from orchestrator.planners.chat.options import ModelOptions
from orchestrator.planners.chat.reserve import BOUNDED_OUTPUT_TOKENS, LOST_OUTPUT_TOKENS
from orchestrator.planners.planner import Unanswered
from tests.fakes.responses_api import as_response
from tests.fakes.unconnected import full_backlog
from tests.integration.planners.asking import KEY, failure_at, planning_at, with_budget
from tests.integration.planners.stub import Stub, completion, http_answer, serving
from tests.unit.planners.journal import AGENTS, FixedCatalogue, answered, decided, new_task

ASK_CRM = completion(("agent_crm", '{"name": "ACME"}'))


async def test_an_answer_becomes_a_turn_with_its_tokens() -> None:
    async with serving(http_answer(200, ASK_CRM)) as stub, planning_at(stub.url) as planner:
        turn = await planner.plan(new_task())
    assert isinstance(turn.decision, Delegate)
    assert turn.decision.calls[0].input == {"name": "ACME"}
    assert turn.usage == Usage(input_tokens=11, output_tokens=3)
    assert turn.model == "stub-1"


async def sent_by(
    stub: Stub, planner: AgenticPlanner, snapshot: Snapshot | None = None
) -> dict[str, object]:
    snapshot = snapshot or new_task()
    for _ in range(2):
        snapshot = decided(snapshot, await planner.plan(snapshot))
        snapshot = answered(snapshot, 1, {"customer_id": "C-1"})
    return stub.bodies[-1]


@pytest.mark.parametrize("snapshot", [new_task(), with_budget(100_000)], ids=["plain", "budget"])
async def test_the_lean_payload_is_the_same_as_that_of_the_stock_client(
    snapshot: Snapshot,
) -> None:
    async with serving(http_answer(200, ASK_CRM)) as stub, planning_at(stub.url) as planner:
        lean = await sent_by(stub, planner, snapshot)
        async with model_http_client(timeout_seconds=5) as client:
            stock = AgenticPlanner(
                ChatOpenAI(
                    model="gpt-4.1-mini",
                    base_url=stub.url,
                    api_key=lambda: KEY,
                    http_async_client=client,
                ),
                catalogue=FixedCatalogue(*AGENTS),
                model_options=ModelOptions(api_key=KEY),
            )
            assert await sent_by(stub, stock, snapshot) == lean


async def test_a_request_asks_for_parallel_tool_calls_and_demands_one() -> None:
    async with serving(http_answer(200, ASK_CRM)) as stub, planning_at(stub.url) as planner:
        body = await sent_by(stub, planner)
    assert (body["tool_choice"], body["parallel_tool_calls"]) == ("required", True)
    assert "temperature" not in body
    assert isinstance(body["messages"], list)
    roles = [message["role"] for message in body["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "user"]


async def test_only_the_request_of_a_task_with_a_budget_bounds_the_answer() -> None:
    async with serving(http_answer(200, ASK_CRM)) as stub, planning_at(stub.url) as planner:
        assert "max_completion_tokens" not in await sent_by(stub, planner)
        body = await sent_by(stub, planner, with_budget(100_000))
    assert body["max_completion_tokens"] == BOUNDED_OUTPUT_TOKENS
    assert "max_tokens" not in body


async def test_an_answer_that_its_bound_cut_says_so() -> None:
    answer = completion(("agent_crm", '{"name": '))
    answer["choices"][0]["finish_reason"] = "length"
    async with serving(http_answer(200, answer)) as stub, planning_at(stub.url) as planner:
        turn = await planner.plan(with_budget(5000))
    assert turn.is_repair
    assert "cut at the bound of its output tokens" in turn.replies[0].text


async def test_a_response_that_its_bound_cut_says_so_too() -> None:
    answer = as_response(completion(("agent_crm", '{"name": ')))
    cut = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    async with (
        serving(http_answer(200, answer | cut)) as stub,
        planning_at(f"{stub.url}/responses") as planner,
    ):
        turn = await planner.plan(new_task())
    assert turn.is_repair
    assert "cut at the bound of its output tokens" in turn.replies[0].text


@pytest.mark.parametrize("arguments", ['{"name": ', "[1]", '"ACME"', "7", "not JSON"])
async def test_arguments_that_are_no_object_are_repaired(arguments: str) -> None:
    answer = http_answer(200, completion(("agent_crm", arguments)))
    async with serving(answer) as stub, planning_at(stub.url) as planner:
        turn = await planner.plan(new_task())
    assert turn.is_repair
    assert "are no JSON object" in turn.replies[0].text


REFUSALS = {
    400: (False, "the provider refused the request"),
    401: (False, "the provider refused the API key"),
    403: (False, "the API key may not use this model"),
    404: (False, "there is no such model"),
    408: (True, "status 408"),
    409: (True, "status 409"),
    422: (False, "status 422"),
    429: (True, "status 429"),
    500: (True, "status 500"),
    503: (True, "status 503"),
}


@pytest.mark.parametrize(("status", "expected"), REFUSALS.items())
async def test_a_refusal_says_whether_to_come_back_and_is_asked_only_once(
    status: int, expected: tuple[bool, str]
) -> None:
    body = {"error": {"message": f"no such model: {KEY}", "type": "t", "code": None}}
    async with serving(http_answer(status, body)) as stub:
        error = await failure_at(stub.url)
    assert error.retryable is expected[0]
    assert expected[1] in str(error)
    assert not isinstance(error, Unanswered)
    assert len(stub.bodies) == 1


FAULTS = {
    400: None,
    401: None,
    404: None,
    422: None,
    429: Fault.LIMITED,
    500: Fault.FAILED,
    502: Fault.UNAVAILABLE,
    503: Fault.UNAVAILABLE,
    529: Fault.UNAVAILABLE,
}


@pytest.mark.parametrize(("status", "fault"), FAULTS.items())
async def test_a_refusal_says_what_is_wrong_with_the_endpoint(
    status: int, fault: Fault | None
) -> None:
    async with serving(http_answer(status, {"error": {"message": "no model"}})) as stub:
        assert (await failure_at(stub.url)).fault is fault


async def test_a_conversation_that_is_too_long_is_said_to_be() -> None:
    message = "This model's maximum context length is 10 tokens."
    body = {"error": {"message": message, "code": "context_length_exceeded"}}
    async with serving(http_answer(400, body)) as stub:
        error = await failure_at(stub.url)
    assert not error.retryable
    assert "longer than the model's context" in str(error)


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_in_seconds_is_passed_on(status: int) -> None:
    answer = http_answer(status, {}, headers={"retry-after": "7"})
    async with serving(answer) as stub:
        error = await failure_at(stub.url)
    assert (error.retry_after_seconds, error.fault) == (7.0, Fault.LIMITED)


async def test_retry_after_as_a_date_is_passed_on() -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    async with serving(http_answer(429, {}, headers={"retry-after": at})) as stub:
        wish = (await failure_at(stub.url)).retry_after_seconds
    assert wish is not None
    assert 60 < wish <= 90


async def test_a_retry_after_that_can_not_be_read_is_ignored() -> None:
    async with serving(http_answer(429, {}, headers={"retry-after": "soon"})) as stub:
        assert (await failure_at(stub.url)).retry_after_seconds is None


async def test_no_answer_in_time_is_worth_another_try() -> None:
    async with serving(None) as stub:
        error = await failure_at(stub.url, timeout_seconds=2)
    assert (error.retryable, error.fault) == (True, Fault.FAILED)
    assert "no answer within 2 seconds" in str(error)
    assert not isinstance(error, Unanswered)
    assert len(stub.bodies) == 1


async def test_no_answer_in_time_is_charged_to_a_task_with_a_budget() -> None:
    async with serving(None) as stub:
        error = await failure_at(stub.url, timeout_seconds=2, task=with_budget(100_000))
    assert isinstance(error, Unanswered)
    assert error.usage.input_tokens > 100
    assert error.usage.output_tokens == LOST_OUTPUT_TOKENS


@pytest.mark.parametrize("message", ["max_completion_tokens is too large", "prompt is too long"])
async def test_an_endpoint_that_refuses_the_bound_is_asked_without_it(message: str) -> None:
    async with serving(http_answer(400, {"error": {"message": message}})) as stub:
        await failure_at(stub.url, task=with_budget(100_000))
    bounded, plain = stub.bodies
    assert plain == {k: v for k, v in bounded.items() if k != "max_completion_tokens"}
    assert plain != bounded


async def test_a_refused_connection_is_worth_another_try() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        error = await failure_at(f"http://127.0.0.1:{unused.getsockname()[1]}/v1")
    assert (error.retryable, error.fault) == (True, Fault.UNAVAILABLE)
    assert "nothing was sent" in str(error)
    assert "no answer within" not in str(error)


async def test_a_connection_that_is_never_made_is_told_from_one_without_an_answer() -> None:
    async with full_backlog() as url:
        error = await failure_at(url, timeout_seconds=1, task=with_budget(100_000))
    assert (error.retryable, error.fault) == (True, Fault.UNAVAILABLE)
    assert "nothing was sent" in str(error)
    assert not isinstance(error, Unanswered)


async def test_a_connection_that_is_cut_after_the_request_is_unknown() -> None:
    async with serving(b"HTTP/1.1 200 X\r\nconnection: close\r\n") as stub:
        error = await failure_at(stub.url, task=with_budget(100_000))
    assert (error.retryable, error.fault) == (True, Fault.FAILED)
    assert "the connection failed before its answer was complete" in str(error)
    assert isinstance(error, Unanswered)


async def test_an_answer_that_breaks_off_is_worth_another_try() -> None:
    async with serving(http_answer(200, ASK_CRM, cut=40)) as stub:
        error = await failure_at(stub.url, task=with_budget(100_000))
    assert (error.retryable, error.fault) == (True, Fault.FAILED)
    assert isinstance(error, Unanswered)
    assert len(stub.bodies) == 1


def packed(content: bytes, encoding: str) -> bytes:
    head = f"content-encoding: {encoding}\r\ncontent-length: {len(content)}"
    return f"HTTP/1.1 200 X\r\n{head}\r\n\r\n".encode() + content


BLANKS = b" " * (MAX_MODEL_ANSWER_BYTES + 1)
TOO_MUCH = {
    "plain": (packed(BLANKS, "identity"), "more than 16000000 bytes"),
    "a compressed bomb": (packed(gzip.compress(BLANKS), "gzip"), "more than 16000000 bytes"),
    "an encoding nobody asked for": (packed(b"x", "br"), "content encoding 'br'"),
}


@pytest.mark.parametrize("what", TOO_MUCH)
async def test_an_answer_that_is_too_large_is_not_read_to_its_end(what: str) -> None:
    answer, said = TOO_MUCH[what]
    async with serving(answer) as stub:
        error = await failure_at(stub.url)
    assert said in str(error)
    assert (error.retryable, error.fault) == (True, Fault.FAILED)


async def test_a_compressed_answer_is_read() -> None:
    answer = packed(gzip.compress(json.dumps(ASK_CRM).encode()), "gzip")
    async with serving(answer) as stub, planning_at(stub.url) as planner:
        turn = await planner.plan(new_task())
    assert isinstance(turn.decision, Delegate)
