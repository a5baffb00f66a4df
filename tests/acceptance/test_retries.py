"""What fails and may succeed later is tried again, from PostgreSQL; what can't is told."""

import pytest

from tests.acceptance.conftest import Office
from tests.fakes.agent import Behaviour, status
from tests.fakes.llm import Answer, calls, raw, refused

REGISTER = "Register the customer ACME"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(status(503), id="503"),
        pytest.param(status(429, Retry_After="1"), id="429"),
        pytest.param(Behaviour(kind="reset"), id="reset"),
    ],
)
async def test_a_call_that_may_succeed_later_is_made_again_under_the_same_key(
    office: Office, answer: Behaviour, request: pytest.FixtureRequest
) -> None:
    task_id = f"agent-{request.node.callspec.id}"
    office.crm.will(answer)

    await office.observer.task(task_id, REGISTER, "customer_id")

    await office.observer.reached(task_id, "completed")
    sends = {key: n for key, n in office.crm.sends.items() if key.startswith(f"{task_id}/")}
    assert sends == {f"{task_id}/2/1": 2}
    assert "attempt_failed" in await office.observer.kinds(task_id)
    assert len(office.llm.of(task_id)) == 1


async def test_while_a_call_waits_for_its_next_try_nobody_owns_the_task(office: Office) -> None:
    office.crm.will(status(429, Retry_After="5"))

    await office.observer.task("parked", REGISTER, "customer_id")

    row = await office.observer.reached("parked", "waiting")
    assert row["owner"] is None
    assert (row["run_at"] - row["updated_at"]).total_seconds() > 1
    await office.observer.reached("parked", "completed")


async def test_a_call_that_can_never_succeed_goes_back_to_the_model(office: Office) -> None:
    office.crm.will(status(404, body="no such customer"))

    await office.observer.task("refused", REGISTER, "customer_id")

    row = await office.observer.reached("refused", "failed")
    assert "no such customer" in row["reason"]
    assert office.crm.sends["refused/2/1"] == 1


@pytest.mark.parametrize(
    ("name", "headers"), [("429", {"Retry_After": "1"}), ("500", {}), ("529", {})]
)
async def test_a_model_that_is_overloaded_is_asked_again(
    office: Office, name: str, headers: dict[str, str]
) -> None:
    task_id = f"model-{name}"
    office.llm.will(task_id, refused(int(name), **headers))

    await office.observer.task(task_id, REGISTER, "customer_id")

    await office.observer.reached(task_id, "completed")
    first, second = office.llm.of(task_id)
    assert (first.turn, second.turn) == (0, 0)
    if headers:
        assert second.at - first.at >= 1


PAGE = "<html><body>Sign in</body></html>"
NOT_UNDERSTOOD = {
    "an-error-of-502": raw('{"error": {"message": "upstream is gone", "code": 502}}'),
    "an-error-of-429": raw('{"error": {"message": "slow down", "code": 429}}'),
    "no-choices": raw('{"choices": []}'),
    "a-page": raw(PAGE, content_type="text/html"),
    "a-page-for-403": raw(PAGE, code=403, content_type="text/html"),
    "a-stream": raw("data: {}\n\ndata: [DONE]\n\n", content_type="text/event-stream"),
    "half-of-it": raw('{"choices": [{"message": {"content": "Le'),
    "nothing": raw(""),
    "an-error-as-end": Answer(content="Le", choice={"finish_reason": "error"}),
}


@pytest.mark.parametrize("turn", [0, 1])
@pytest.mark.parametrize("what", NOT_UNDERSTOOD)
async def test_an_answer_that_nobody_understands_is_asked_for_again_at_any_turn(
    office: Office, what: str, turn: int
) -> None:
    task_id = f"model-{what}-{turn}"
    before = [calls(("agent_crm", {"name": "ACME"}))] * turn
    office.llm.will(task_id, *before, NOT_UNDERSTOOD[what])

    await office.observer.task(task_id, REGISTER, "customer_id", "account_number")

    await office.observer.reached(task_id, "completed")
    assert "compensating" not in await office.observer.kinds(task_id)
    assert [prompt.turn for prompt in office.llm.of(task_id)].count(turn) == 2


async def test_a_model_that_refuses_the_key_fails_the_task_with_the_reason(
    office: Office,
) -> None:
    office.llm.will("key", refused(401))

    await office.observer.task("key", REGISTER, "customer_id")

    row = await office.observer.reached("key", "failed")
    assert "refused the API key" in row["reason"]
    assert "sk-of-a-test" not in row["reason"]
