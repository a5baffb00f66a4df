"""Changes are folded into a context one by one or many at once: the outcome is the same."""

from functools import reduce

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.domain.context import (
    Context,
    apply_change,
    collected,
)
from orchestrator.domain.json import JsonObject

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine is no failure."""

names = st.sampled_from(["a", "b", "c"])
values = st.none() | st.integers(0, 3) | st.just("x") | st.just([1]) | st.just({"in": 1})
objects = st.dictionaries(names, values, max_size=3)
fields = {
    "required_fields": st.lists(names, max_size=3),
    "current_state": st.sampled_from(["accepted", "working"]),
    "collected_data": objects,
    "event_data": objects,
}
changes = st.fixed_dictionaries({}, optional=fields)
documents = st.fixed_dictionaries(fields)


@UNHURRIED
@given(document=documents, first=changes, second=changes)
def test_two_changes_one_by_one_or_as_one_give_the_same_context(
    document: JsonObject, first: JsonObject, second: JsonObject
) -> None:
    one_by_one = apply_change(apply_change(document, first), second)
    assert apply_change(document, apply_change(first, second)) == one_by_one


@UNHURRIED
@given(document=documents, many=st.lists(changes, max_size=6), at=st.integers(0, 6))
def test_a_journal_may_be_folded_from_any_stored_context(
    document: JsonObject, many: list[JsonObject], at: int
) -> None:
    stored = reduce(apply_change, many[:at], document)
    assert reduce(apply_change, many[at:], stored) == reduce(apply_change, many, document)


@UNHURRIED
@given(document=documents, change=changes)
def test_a_change_leaves_what_it_is_given_as_it_was(
    document: JsonObject, change: JsonObject
) -> None:
    before = Context.from_json(document).to_json()
    apply_change(document, change)
    assert document == before


@UNHURRIED
@given(document=documents, change=changes)
def test_a_context_and_its_document_are_changed_alike(
    document: JsonObject, change: JsonObject
) -> None:
    assert Context.from_json(document).apply(change).to_json() == apply_change(document, change)


def test_no_change_gives_the_same_context() -> None:
    context = Context(required_fields=("a",))
    assert context.apply(None) is context
    assert apply_change({"current_state": "x"}, None) == {"current_state": "x"}


def test_data_is_merged_by_key_and_other_fields_are_replaced_whole() -> None:
    context = Context(
        required_fields=("a", "b"), collected_data={"a": {"x": 1}, "k": 1}, event_data={"e": 1}
    )
    after = context.apply(
        {
            "required_fields": ["c"],
            "current_state": "calling crm",
            "collected_data": {"a": {"y": 2}},
            "event_data": {"f": 2},
        }
    )
    assert after == Context(
        required_fields=("c",),
        current_state="calling crm",
        collected_data={"a": {"y": 2}, "k": 1},
        event_data={"e": 1, "f": 2},
    )


def test_a_document_without_fields_is_an_accepted_task_that_requires_nothing() -> None:
    assert Context.from_json({}) == Context()
    assert Context().current_state == "accepted"


def test_missing_fields_are_those_without_a_value_in_the_order_asked_for() -> None:
    context = Context(required_fields=("d", "c", "b", "a"), collected_data={"c": None, "b": 0})
    assert context.missing == ("d", "c", "a")
    assert not context.is_complete


def test_an_empty_value_is_a_value() -> None:
    data: JsonObject = {"text": "", "list": [], "flag": False, "number": 0}
    assert Context(required_fields=tuple(data), collected_data=data).is_complete


def test_a_task_that_requires_no_field_is_never_complete_by_rule() -> None:
    assert not Context(collected_data={"a": 1}).is_complete


def test_only_named_values_that_are_not_null_are_collected() -> None:
    assert collected(("a", "b", "c"), {"a": 1, "b": None, "z": 9}) == {"a": 1}


OF_SOMEBODY = Context(
    required_fields=("free", "ours", "theirs", "yours"),
    providers={"ours": "agent", "theirs": "event", "yours": "person"},
)


def test_a_field_is_open_to_whom_it_is_from() -> None:
    names = OF_SOMEBODY.required_fields
    assert OF_SOMEBODY.open_to("any", names) == ("free",)
    assert OF_SOMEBODY.open_to("agent", (*names, "other")) == ("free", "ours", "other")
    assert OF_SOMEBODY.open_to("event", names) == ("free", "theirs")
    assert OF_SOMEBODY.open_to("person", names) == ("free", "theirs", "yours")


def test_who_provides_a_field_is_stored_and_outlives_every_change() -> None:
    assert Context.from_json(OF_SOMEBODY.to_json()) == OF_SOMEBODY
    after = OF_SOMEBODY.apply({"collected_data": {"free": 1}, "current_state": "x"})
    assert after.providers == OF_SOMEBODY.providers
    assert "providers" not in Context(required_fields=("free",)).to_json()
    assert OF_SOMEBODY.labels(("free", "yours")) == "free, yours (from person)"


def test_what_nobody_may_give_is_kept_as_data_and_not_collected() -> None:
    payload: JsonObject = {"ours": 1, "theirs": 2, "yours": 3}
    assert OF_SOMEBODY.event_change(payload, by="event") == {
        "event_data": payload,
        "collected_data": {"theirs": 2},
    }


def test_an_events_data_is_kept_whole_and_its_required_fields_are_collected() -> None:
    payload: JsonObject = {"email": "a@b.example", "note": "by phone", "phone": None}
    assert Context(required_fields=("email", "phone")).event_change(payload, by="event") == {
        "event_data": payload,
        "collected_data": {"email": "a@b.example"},
    }


def test_an_event_without_a_required_field_collects_nothing() -> None:
    assert Context(required_fields=("email",)).event_change({"note": "x"}, by="event") == {
        "event_data": {"note": "x"}
    }


def test_an_events_null_does_not_take_a_collected_value_away() -> None:
    context = Context(required_fields=("email",), collected_data={"email": "a@b.example"})
    assert context.apply(context.event_change({"email": None}, by="event")).is_complete
