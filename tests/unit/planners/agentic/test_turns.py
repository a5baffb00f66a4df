"""What is made of a model's answer."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.domain.context import Provider
from orchestrator.domain.decision import Complete, Delegate, Fail, ModelMessage, Turn, Wait
from orchestrator.domain.json import JsonObject, JsonValue
from orchestrator.domain.snapshot import Snapshot
from orchestrator.planners.agentic.options import AgenticOptions
from orchestrator.planners.agentic.tools import build_toolbox
from orchestrator.planners.agentic.turns import limit_repairs, read_turn, repairs_in_a_row
from tests.unit.planners.journal import AGENTS, answered, decided, event, new_task, retried

DONE: JsonObject = {"customer_id": "C-1"}


def read(
    *calls: tuple[str, JsonValue],
    text: str = "",
    collected: JsonObject | None = None,
    options: AgenticOptions | None = None,
    snapshot: Snapshot | None = None,
) -> Turn:
    """The turn of an answer with these calls, for a task that requires a `customer_id`."""
    given = new_task("Register the customer ACME, which has C-1 already")
    given = replace(given, context=given.context.apply({"collected_data": collected or {}}))
    options = options or AgenticOptions()
    message = ModelMessage(
        text=text,
        tool_calls=tuple(
            {"id": f"c{number}", "name": name, "args": args}
            for number, (name, args) in enumerate(calls, start=1)
        ),
    )
    return read_turn(
        message,
        toolbox=build_toolbox(AGENTS, max_agent_tools=options.max_agent_tools),
        snapshot=snapshot or given,
        options=options,
    )


def errors(turn: Turn) -> dict[str, str]:
    return {reply.tool_call_id: reply.text for reply in turn.replies if reply.is_error}


def test_parallel_agent_calls_become_one_decision_numbered_from_one() -> None:
    turn = read(
        ("agent_crm", {"name": "ACME"}),
        ("agent_screening", {"customer_id": "C-1", "name": "ACME"}),
    )
    assert isinstance(turn.decision, Delegate)
    calls = [(call.number, call.agent, call.tool_call_id) for call in turn.decision.calls]
    assert calls == [(1, "crm", "c1"), (2, "screening", "c2")]
    assert not turn.is_repair


def test_an_agent_is_called_by_id_where_there_are_many() -> None:
    args: JsonValue = {"agent": "crm", "input": {"name": "ACME"}}
    turn = read(("call_agent", args), options=AgenticOptions(max_agent_tools=1))
    assert isinstance(turn.decision, Delegate)
    assert turn.decision.calls[0].input == {"name": "ACME"}


def test_wait_carries_its_reason_and_an_aware_time() -> None:
    turn = read(("wait_for_event", {"reason": "a date", "until": "2030-01-31T12:00:00+02:00"}))
    assert turn.decision == Wait(waiting_for="a date", until=datetime(2030, 1, 31, 10, tzinfo=UTC))


def test_complete_is_a_decision_once_every_required_field_is_there() -> None:
    turn = read(("complete", {"result": {"ok": True}}), collected=DONE)
    assert turn.decision == Complete(result={"ok": True})
    assert not turn.is_repair


def test_complete_with_missing_fields_goes_back_to_the_model() -> None:
    turn = read(("complete", {"result": {"customer_id": "C-1"}}))
    assert turn.decision == Delegate()
    assert turn.is_repair
    assert errors(turn)["c1"].startswith("not complete: customer_id not collected yet")


def test_a_field_written_in_the_same_answer_counts_for_complete() -> None:
    turn = read(("update_context", {"collected": DONE}), ("complete", {"result": {}}))
    assert isinstance(turn.decision, Complete)
    assert turn.collected == DONE


def test_fail_carries_its_reason() -> None:
    assert read(("fail", {"reason": "no agent"})).decision == Fail(reason="no agent")


def test_update_context_writes_required_fields_and_the_state() -> None:
    turn = read(("update_context", {"collected": DONE, "state": "registered"}))
    assert (turn.decision, turn.collected, turn.state) == (Delegate(), DONE, "registered")
    assert not turn.is_repair


def test_update_context_refuses_a_field_that_is_not_required() -> None:
    turn = read(("update_context", {"collected": {**DONE, "colour": "red"}}))
    assert turn.collected == {}
    assert errors(turn)["c1"] == "nothing was written: 'colour' is no required field (customer_id)"


@pytest.mark.parametrize(
    ("who", "way"),
    [
        ("agent", "counts only from an agent, not from you: call an agent that adds it"),
        ("event", "counts only from an event, not from you: get it by wait_for_event"),
        ("person", "counts only from a person, not from you: get it by wait_for_event"),
    ],
)
def test_the_model_does_not_provide_what_is_from_somebody_else(who: Provider, way: str) -> None:
    asked = new_task("Approval: C-1", required=("customer_id",), event_data={"customer_id": "C-1"})
    wants = replace(asked.context, providers={"customer_id": who})
    turn = read(
        ("update_context", {"collected": DONE}),
        ("complete", {"result": DONE}),
        snapshot=replace(asked, context=wants),
    )
    assert (turn.decision, turn.collected, turn.is_repair) == (Delegate(), {}, True)
    assert errors(turn)["c1"] == f"nothing was written: 'customer_id' {way}"


def test_the_model_writes_nothing_down_that_it_was_not_given() -> None:
    turn = read(
        ("update_context", {"collected": {"customer_id": "C-2"}, "state": "done"}),
        ("complete", {"result": {}}),
    )
    assert (turn.decision, turn.collected, turn.state) == (Delegate(), {}, None)
    assert errors(turn)["c1"].startswith("nothing was written: the value of 'customer_id' stands")


def test_list_agents_is_answered_in_place() -> None:
    turn = read(("list_agents", {}))
    assert turn.decision == Delegate()
    assert '"id":"crm"' in turn.replies[0].text
    assert not turn.is_repair


UNUSABLE: dict[str, tuple[str, Any, str]] = {
    "broken arguments": ("agent_crm", '{"name": ', "are no JSON object: '{\"name\": '"),
    "a list as arguments": ("agent_crm", "[1]", "are no JSON object"),
    "an unknown tool": ("agent_hr", {}, "there is no tool 'agent_hr'; the tools are: list_agents"),
    "a missing input": ("agent_crm", {}, "agent 'crm' can't take this input"),
    "an input of a wrong type": ("agent_crm", {"name": 1}, "agent 'crm' can't take this input"),
    "no reason": ("fail", {}, "wrong arguments for fail"),
    "an invented argument": ("complete", {"result": {}, "x": 1}, "wrong arguments for complete"),
    "no time": ("wait_for_event", {"reason": "x", "until": "soon"}, "expected RFC 3339"),
    "a time without offset": (
        "wait_for_event",
        {"reason": "x", "until": "2030-01-01T00:00:00"},
        "expected RFC 3339",
    ),
    "a time beyond all": (
        "wait_for_event",
        {"reason": "x", "until": "0001-01-01T00:00:00+10:00"},
        "expected RFC 3339",
    ),
}


@pytest.mark.parametrize(("tool", "args", "text"), UNUSABLE.values(), ids=UNUSABLE)
def test_an_unusable_call_goes_back_to_the_model_as_an_error(
    tool: str, args: JsonValue, text: str
) -> None:
    turn = read((tool, args))
    assert turn.decision == Delegate()
    assert turn.is_repair
    assert text in errors(turn)["c1"]


def test_an_unknown_agent_id_goes_back_to_the_model() -> None:
    args: JsonValue = {"agent": "hr", "input": {}}
    turn = read(("call_agent", args), options=AgenticOptions(max_agent_tools=1))
    assert errors(turn) == {"c1": "there is no agent 'hr': list_agents shows which there are"}


@pytest.mark.parametrize("text", ["", "I think the customer is ACME."])
def test_plain_text_and_silence_are_repairs_and_no_completion(text: str) -> None:
    turn = read(text=text, collected=DONE)
    assert (turn.decision, turn.is_repair) == (Delegate(), True)


def test_good_calls_go_out_beside_bad_ones() -> None:
    turn = read(("agent_crm", {"name": "ACME"}), ("agent_hr", {}))
    assert isinstance(turn.decision, Delegate)
    assert [call.agent for call in turn.decision.calls] == ["crm"]
    assert turn.is_repair
    assert list(errors(turn)) == ["c2"]


def test_calls_above_the_cap_are_refused() -> None:
    calls: list[tuple[str, JsonValue]] = [("agent_crm", {"name": str(n)}) for n in range(18)]
    turn = read(*calls)
    assert isinstance(turn.decision, Delegate)
    assert [call.number for call in turn.decision.calls] == list(range(1, 17))
    assert list(errors(turn)) == ["c17", "c18"]


def test_agent_calls_win_over_an_ending() -> None:
    turn = read(("complete", {"result": {}}), ("agent_crm", {"name": "ACME"}), collected=DONE)
    assert isinstance(turn.decision, Delegate)
    assert len(turn.decision.calls) == 1
    assert "decide again with their results" in errors(turn)["c1"]


def test_an_ending_beside_a_wrong_call_is_refused() -> None:
    turn = read(("agent_hr", {}), ("fail", {"reason": "x"}))
    assert turn.decision == Delegate()
    assert list(errors(turn)) == ["c1", "c2"]


def test_of_several_endings_none_is_taken() -> None:
    turn = read(("fail", {"reason": "x"}), ("wait_for_event", {"reason": "y"}))
    assert turn.decision == Delegate()
    assert list(errors(turn)) == ["c1", "c2"]


def test_every_tool_call_is_either_answered_or_carried_out() -> None:
    turn = read(
        ("agent_crm", {"name": "ACME"}), ("list_agents", {}), ("nonsense", {}), ("complete", "{")
    )
    assert isinstance(turn.decision, Delegate)
    carried_out = [str(call.tool_call_id) for call in turn.decision.calls]
    assert sorted([*carried_out, *(r.tool_call_id for r in turn.replies)]) == [
        "c1", "c2", "c3", "c4",
    ]  # fmt: skip


def test_the_third_unusable_answer_fails_the_task() -> None:
    snapshot, options = new_task(), AgenticOptions()
    for expected in (Delegate, Delegate, Fail):
        snapshot = event(snapshot, {"note": "in between"})
        turn = limit_repairs(read(text="Hm."), steps=snapshot.current_run, options=options)
        assert isinstance(turn.decision, expected)
        snapshot = decided(snapshot, turn)
    assert isinstance(turn.decision, Fail)
    assert turn.decision.reason.startswith(
        "the model gave no usable decision: it answered in plain text: 'Hm.'. No answer called a "
        "tool: the endpoint may ignore tools"
    )


def test_a_usable_answer_starts_the_count_anew() -> None:
    snapshot = decided(decided(new_task(), read()), read())
    assert repairs_in_a_row(snapshot.current_run) == 2
    snapshot = answered(decided(snapshot, read(("agent_crm", {"name": "A"}))), 1, {})
    assert repairs_in_a_row(snapshot.current_run) == 0


def test_a_person_who_retries_starts_the_count_anew() -> None:
    snapshot = retried(decided(decided(new_task(), read()), read()))
    assert repairs_in_a_row(snapshot.current_run) == 0


def test_calls_of_a_half_usable_answer_are_made_even_after_two_repairs() -> None:
    snapshot = decided(decided(new_task(), read()), read())
    turn = read(("agent_crm", {"name": "A"}), ("nonsense", {}))
    assert limit_repairs(turn, steps=snapshot.current_run, options=AgenticOptions()) == turn


def test_the_reason_of_a_failure_names_the_first_error() -> None:
    snapshot = decided(decided(new_task(), read()), read())
    turn = limit_repairs(
        read(("agent_hr", {})), steps=snapshot.current_run, options=AgenticOptions()
    )
    assert isinstance(turn.decision, Fail)
    assert "there is no tool 'agent_hr'" in turn.decision.reason
