"""What an endpoint says in place of an answer is judged by its words, whatever its status is."""

import json

import pytest

from orchestrator.domain.fault import Fault
from orchestrator.planners.planner import Unanswered
from tests.integration.planners.asking import failure_at, with_budget
from tests.integration.planners.stub import completion, http_answer, serving

PAGE = "<html><body>Sign in</body></html>"
STREAM = 'data: {"choices": [{"delta": {"content": "Hi"}}]}\n\ndata: [DONE]\n\n'

OVERLOADED = {"error": {"message": "upstream is overloaded", "code": 502}}
BEHIND = {
    "error": {
        "message": "Provider returned error",
        "code": 400,
        "metadata": {"raw": "upstream connect error or disconnect/reset before headers"},
    }
}
LIMITED = {"error": {"message": "slow down", "code": 429}}
TRY_AGAIN: dict[str, tuple[int, object, Fault, str]] = {
    "half of a JSON document": (200, '{"id": "x", "choices": [', Fault.FAILED, '"choices": ['),
    "no choices": (200, {"id": "x"}, Fault.FAILED, '{"id": "x"}'),
    "empty choices": (200, {"id": "x", "choices": []}, Fault.FAILED, '"choices": []'),
    "null choices": (200, {"id": "x", "choices": None}, Fault.FAILED, '"choices": null'),
    "a choice without message": (200, {"choices": [{}]}, Fault.FAILED, '{"choices": [{}]}'),
    "a list": (200, [1], Fault.FAILED, "[1]"),
    "a number": (200, "7", Fault.UNAVAILABLE, "7"),
    "nothing": (200, "", Fault.UNAVAILABLE, "an empty body"),
    "a page": (200, PAGE, Fault.UNAVAILABLE, "Sign in"),
    "a stream": (200, STREAM, Fault.UNAVAILABLE, "data: "),
    "a text": (200, "upstream connect error", Fault.UNAVAILABLE, "upstream connect error"),
    "an error without a code": (200, {"error": {"message": "no"}}, Fault.UNAVAILABLE, "no"),
    "an error with a code": (200, OVERLOADED, Fault.UNAVAILABLE, "upstream is overloaded"),
    "a limit": (200, LIMITED, Fault.LIMITED, "slow down"),
    "a limit in a list": (200, [LIMITED], Fault.LIMITED, "slow down"),
    "a limit in a stream": (200, f"data: {json.dumps(LIMITED)}", Fault.LIMITED, "slow down"),
    "a page for 403": (403, PAGE, Fault.UNAVAILABLE, "Sign in"),
    "a page for 400": (400, PAGE, Fault.UNAVAILABLE, "Sign in"),
    "a path that is not there": (404, "404 page not found", Fault.UNAVAILABLE, "base URL"),
    "a wrong method": (405, {"detail": "Method Not Allowed"}, Fault.UNAVAILABLE, "Not Allowed"),
    "a redirect": (302, "", Fault.UNAVAILABLE, "status 302"),
    "no credit": (402, {"error": {"message": "Insufficient Balance"}}, Fault.LIMITED, "no credit"),
    "a failure behind it, as 400": (400, BEHIND, Fault.FAILED, "connect error"),
    "a failure behind it, as 200 with 400": (200, BEHIND, Fault.FAILED, "connect error"),
    "a failure without a cause": (
        400,
        {"message": "Unknown error, try again"},
        Fault.FAILED,
        "Unk",
    ),
    "an error that is true": (200, {"error": True, "message": "no"}, Fault.UNAVAILABLE, ": no"),
    "no quota": (429, {"error": {"code": "insufficient_quota"}}, Fault.LIMITED, "no credit"),
}


PATHS = ["", "/responses"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("what", TRY_AGAIN)
async def test_what_nobody_understands_is_tried_again_and_told(what: str, path: str) -> None:
    status, body, fault, said = TRY_AGAIN[what]
    async with serving(http_answer(status, body)) as stub:
        error = await failure_at(stub.url + path)
    assert (error.retryable, error.fault) == (True, fault)
    assert said in str(error)
    assert f"status {status}" in str(error)
    assert len(stub.bodies) == 1


INVALID_KEY = {"error": {"message": "bad key", "code": "invalid_api_key"}}
NO_MODEL = {"error": {"message": "model 'x' does not exist", "code": 404}}
TOO_LONG = {"error": {"message": "maximum context length is 10 tokens", "code": 400}}
NEVER_FITS = {
    "error": {
        "message": "Request too large for gpt-4.1 on tokens per min (TPM): Limit 30000, Requested "
        "40000. The input or output tokens must be reduced in order to run successfully.",
        "type": "tokens",
        "code": "rate_limit_exceeded",
    }
}
FOR_GOOD: dict[str, tuple[int, object, str]] = {
    "a refused key": (200, INVALID_KEY, "refused the API key"),
    "a refused key in words": (200, {"error": "Incorrect API key: sk-very"}, "refused the API key"),
    "no such model": (200, NO_MODEL, "there is no such model"),
    "too long": (200, TOO_LONG, "longer than the model's context"),
    "too long with a status of failure": (500, TOO_LONG, "longer than the model's context"),
    "larger than a minute's limit": (429, NEVER_FITS, "longer than the model's context"),
    "a wrong request to try again": (400, {"message": "Change the prompt and try again"}, "prompt"),
    "no model beside a title": (404, {"error": "Not Found", "message": "no model x"}, "no model x"),
    "a wrong request": (400, {"message": "tools: wrong", "code": 400}, "refused the request"),
    "a wrong field": (422, {"detail": [{"loc": ["tools"]}]}, "refused the request"),
    "no model by words": (404, {"error": "model 'x' not found"}, "there is no such model"),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("what", FOR_GOOD)
async def test_what_the_endpoint_refuses_in_words_is_permanent(what: str, path: str) -> None:
    status, body, said = FOR_GOOD[what]
    async with serving(http_answer(status, body)) as stub:
        error = await failure_at(stub.url + path)
    assert (error.retryable, error.fault) == (False, None)
    assert said in str(error)
    assert "sk-very" not in str(error)


async def test_of_a_body_that_nobody_understands_200_characters_are_told() -> None:
    async with serving(http_answer(200, "x" * 500)) as stub:
        text = str(await failure_at(stub.url))
    assert "x" * 200 + "…" in text
    assert "x" * 201 not in text


async def test_a_limit_with_a_good_status_says_when_to_come_back() -> None:
    answer = http_answer(200, LIMITED, headers={"retry-after": "7"})
    async with serving(answer) as stub:
        assert (await failure_at(stub.url)).retry_after_seconds == 7.0


@pytest.mark.parametrize("what", ["half of a JSON document", "a page", "an error with a code"])
async def test_only_half_an_answer_is_charged_to_a_task_with_a_budget(what: str) -> None:
    status, body, _, _ = TRY_AGAIN[what]
    async with serving(http_answer(status, body)) as stub:
        error = await failure_at(stub.url, task=with_budget(100_000))
    assert isinstance(error, Unanswered) is (what == "half of a JSON document")


def failed_answer(**choice: object) -> bytes:
    answer = completion(("agent_crm", '{"na'))
    answer["choices"][0] |= {"finish_reason": "error", **choice}
    return http_answer(200, answer)


@pytest.mark.parametrize(
    ("answer", "fault", "said"),
    [
        (failed_answer(), Fault.FAILED, "finish_reason 'error'"),
        (failed_answer(error={"code": 429, "message": "slow down"}), Fault.LIMITED, "slow down"),
        (failed_answer(finish_reason="network_error"), Fault.FAILED, "'network_error'"),
    ],
)
async def test_an_answer_that_broke_on_its_way_is_tried_again(
    answer: bytes, fault: Fault, said: str
) -> None:
    async with serving(answer) as stub:
        error = await failure_at(stub.url)
    assert (error.retryable, error.fault) == (True, fault)
    assert said in str(error)
