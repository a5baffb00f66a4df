from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.domain.context import Context, apply_change, collected, event_change
from orchestrator.domain.json import JsonObject, JsonValue

TEXT = st.text(max_size=5)
VALUES: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
OBJECTS: st.SearchStrategy[JsonObject] = st.dictionaries(TEXT, VALUES, max_size=3)
CHANGES: st.SearchStrategy[JsonObject] = st.fixed_dictionaries(
    {},
    optional={
        "collected_data": OBJECTS,
        "event_data": OBJECTS,
        "current_state": TEXT,
        "required_fields": st.lists(TEXT, max_size=3),
    },
)


@settings(max_examples=50)
@given(CHANGES, CHANGES)
def test_a_later_change_wins_and_takes_nothing_else_away(
    first: JsonObject, then: JsonObject
) -> None:
    context = Context().apply(first).apply(then)
    assert context.collected_data == {
        **_object(first, "collected_data"),
        **_object(then, "collected_data"),
    }
    assert context.event_data == {**_object(first, "event_data"), **_object(then, "event_data")}
    states: JsonObject = {"current_state": "accepted", **first, **then}
    assert context.current_state == states["current_state"]


@settings(max_examples=50)
@given(st.lists(CHANGES, max_size=6), st.integers(0, 6))
def test_folding_can_go_on_from_any_stored_context(changes: list[JsonObject], at: int) -> None:
    whole, part = Context(), Context()
    for change in changes:
        whole = whole.apply(change)
    for change in changes[:at]:
        part = part.apply(change)
    stored = Context.from_json(part.to_json())
    for change in changes[at:]:
        stored = stored.apply(change)
    assert stored == whole


@settings(max_examples=50)
@given(OBJECTS, st.none() | st.just({}))
def test_no_change_is_no_change(context: JsonObject, change: JsonObject | None) -> None:
    assert apply_change(context, change) == context


def test_a_merged_field_that_was_no_object_is_replaced() -> None:
    assert apply_change({"event_data": 1}, {"event_data": {"a": 1}}) == {"event_data": {"a": 1}}
    assert apply_change({"event_data": {"a": 1}}, {"event_data": 2}) == {"event_data": 2}


def test_folding_leaves_the_context_before_as_it_was() -> None:
    before: JsonObject = {"collected_data": {"a": 1}}
    apply_change(before, {"collected_data": {"b": 2}})
    assert before == {"collected_data": {"a": 1}}


def test_a_field_that_is_null_is_missing() -> None:
    context = Context(required_fields=("a", "b"), collected_data={"a": None, "b": 0})
    assert context.missing == ("a",)
    assert not context.is_complete


def test_a_task_that_requires_nothing_is_never_complete_by_rule() -> None:
    assert not Context(collected_data={"a": 1}).is_complete


def test_only_fields_that_were_asked_for_are_collected() -> None:
    assert collected(["a", "b", "c"], {"a": 1, "b": None, "d": 4}) == {"a": 1}


def test_an_events_data_is_kept_and_its_required_fields_are_collected() -> None:
    assert event_change(["a"], {"a": 1, "b": 2}) == {
        "event_data": {"a": 1, "b": 2},
        "collected_data": {"a": 1},
    }
    assert event_change(["a"], {"b": 2}) == {"event_data": {"b": 2}}


def _object(change: JsonObject, name: str) -> JsonObject:
    value = change.get(name, {})
    assert isinstance(value, dict)
    return value
