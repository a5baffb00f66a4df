"""An answer of the model that decides nothing goes back to it, twice at most."""

import pytest

from tests.acceptance.conftest import Office
from tests.fakes.llm import EMPTY, Answer, broken, calls, text

REGISTER = "Register the customer ACME"
USABLE = calls(("agent_crm", {"name": "ACME"}))

REFUSED = Answer(choice={"message": {"content": None, "refusal": "I can't help with that."}})
FILTERED = Answer(
    choice={
        "finish_reason": "content_filter",
        "content_filter_results": {"hate": {"filtered": True, "severity": "high"}},
    }
)

UNUSABLE = [
    pytest.param(broken("agent_crm", '{"name": '), "are no JSON object", id="broken-arguments"),
    pytest.param(calls(("agent_crm", {})), "can't take this input", id="wrong-arguments"),
    pytest.param(calls(("agent_nobody", {})), "there is no tool", id="unknown-agent"),
    pytest.param(EMPTY, "its answer was empty", id="empty"),
    pytest.param(text("It is done."), "it answered in plain text", id="plain-text"),
    pytest.param(calls(("complete", {"result": {}})), "not complete", id="too-early"),
    pytest.param(REFUSED, "I can't help with that.\" (the model refused)", id="refused"),
    pytest.param(FILTERED, "stopped the answer: content_filter, hate", id="filtered"),
]


@pytest.mark.parametrize(("answer", "reason"), UNUSABLE)
async def test_the_model_may_mend_its_answer_twice(
    office: Office, answer: Answer, reason: str, request: pytest.FixtureRequest
) -> None:
    task_id = f"mends-{request.node.callspec.id}"
    office.llm.will(task_id, answer, answer, USABLE)

    await office.observer.task(task_id, REGISTER, "customer_id")

    await office.observer.reached(task_id, "completed")
    assert [prompt.turn for prompt in office.llm.of(task_id)] == [0, 1, 2]


@pytest.mark.parametrize(("answer", "reason"), UNUSABLE)
async def test_the_third_unusable_answer_fails_the_task_with_the_reason(
    office: Office, answer: Answer, reason: str, request: pytest.FixtureRequest
) -> None:
    task_id = f"fails-{request.node.callspec.id}"
    office.llm.will(task_id, answer, answer, answer)

    await office.observer.task(task_id, REGISTER, "customer_id")

    row = await office.observer.reached(task_id, "failed")
    assert "the model gave no usable decision" in row["reason"]
    assert reason in row["reason"]
    assert len(office.llm.of(task_id)) == 3


async def test_the_model_is_told_what_was_wrong(office: Office) -> None:
    office.llm.will("reproved", calls(("agent_crm", {"nome": "ACME"})), USABLE)

    await office.observer.task("reproved", REGISTER, "customer_id")

    await office.observer.reached("reproved", "completed")
    reply = office.llm.of("reproved")[1].messages[-2]
    assert reply["role"] == "tool"
    assert "'name'" in reply["content"] or '"name"' in reply["content"]


@pytest.mark.parametrize(
    ("name", "ids"),
    [("equal", ["call_0"]), ("absent", [None]), ("numbers", [0]), ("long", ["x" * 5000])],
)
async def test_each_result_is_shown_with_its_own_call_whatever_ids_come(
    office: Office, name: str, ids: list[object]
) -> None:
    task_id = f"ids-{name}"
    asked = [("agent_crm", {"name": "ACME"}), ("agent_crm", {"name": "Umbrella"})]
    twice = calls(*asked)
    same = Answer(tool_calls=twice.tool_calls, ids=tuple(ids * 2), beside={"usage": "none"})
    office.llm.will(task_id, same, same, calls(("complete", {"result": {}})))

    await office.observer.task(task_id, REGISTER, "customer_id")

    await office.observer.reached(task_id, "completed")
    messages = office.llm.of(task_id)[-1].messages
    told = [call["id"] for m in messages for call in m.get("tool_calls") or ()]
    assert len(set(told)) == len(told)
    assert [m["tool_call_id"] for m in messages if m["role"] == "tool"] == told
