"""Whatever JSON comes in by, it is read alike: the same value at every door, or refused by name."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.agents.callers.http_answer import result_of
from orchestrator.agents.declaration import parse
from orchestrator.agents.documents import UnreadableDocument, read_document
from orchestrator.bus.messages import parse_event, parse_task
from orchestrator.cli.messages import field_values, lines_of
from orchestrator.domain.errors import InvalidMessage, UnusableAnswer
from orchestrator.domain.ids import Seq
from orchestrator.domain.json import UnreadableJson, read_json
from orchestrator.planners.chat.answer import read_answer
from orchestrator.planners.chat.completion import read_completion
from orchestrator.store.ingest import Origin
from tests.integration.planners.stub import completion
from tests.unit.planners.journal import make_agent

AGENT = make_agent("crm")
BOM = "\ufeff"


def origin(topic: str, text: str) -> Origin:
    return Origin(topic=topic, partition=0, offset=0, value=text.encode())


def of_task(text: str) -> Any:
    value = f'{{"task_description": "x", "event_data": {text}}}'
    return parse_task(origin("tasks", value), cluster_id="c", max_bytes=10_000).context[
        "event_data"
    ]


def of_event(text: str) -> Any:
    value = f'{{"task_id": "t", "event_data": {text}}}'
    return parse_event(origin("events", BOM + value), max_bytes=10_000).payload


def of_agent(text: str) -> Any:
    body = f'{{"status": "success", "output": {text}}}'
    return result_of((BOM + body).encode(), agent=AGENT, max_depth=64).output


def of_model(text: str) -> Any:
    body = json.dumps(completion(("agent_crm", text))).encode()
    message = read_completion(200, body)
    args = read_answer(message, seq=Seq(1)).tool_calls[0]["args"]
    if not isinstance(args, dict):
        raise UnreadableJson("invalid_json", str(args))
    return args


def of_yaml(text: str) -> Any:
    return read_document(f"{BOM}config: {text}")["config"]


def of_json_declaration(text: str) -> Any:
    return read_document(f'{BOM}{{"config": {text}}}', is_json=True)["config"]


def of_argument(text: str) -> Any:
    return field_values([BOM + text])


def of_named_argument(text: str) -> Any:
    return field_values([f"n={BOM}{text}"])["n"]


def of_line(text: str) -> Any:
    value = f'{BOM}{{"task_description": "x", "metadata": {text}}}'
    (found,) = lines_of([value.encode()])
    if isinstance(found, str):
        raise UnreadableJson("invalid_json", found)
    return json.loads(found.value or b"")["metadata"]


DOORS: tuple[Callable[[str], Any], ...] = (
    of_task,
    of_event,
    of_agent,
    of_model,
    of_yaml,
    of_json_declaration,
    of_argument,
    of_named_argument,
    of_line,
)
REFUSED = "refused, with its digits"
REFUSALS = (InvalidMessage, UnusableAnswer, ValueError)

NUMBERS = (
    st.integers().map(str)
    | st.integers(2**60, 2**70).map(str)
    | st.floats(allow_nan=False, allow_infinity=False).map(repr).map(lambda t: t.replace("e+", "e"))
    | st.decimals(allow_nan=False, allow_infinity=False).map(lambda d: str(d).lower())
    | st.from_regex(r"-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,24})?(e-?[0-9]{1,3})?", fullmatch=True)
)


def read_at(door: Callable[[str], Any], digits: str) -> object:
    """The value, with its type; or whether the refusal names it."""
    try:
        found = door(f'{{"a": [{digits}]}}')["a"][0]
    except REFUSALS as error:
        return REFUSED if digits[:40] in str(error) else str(error)
    return type(found), found


@given(digits=NUMBERS)
def test_a_number_is_the_same_at_every_door_or_refused_at_every_door(digits: str) -> None:
    try:
        expected = read_json(digits)
        value: object = (type(expected), expected)
    except UnreadableJson:
        value = REFUSED
    assert {door.__name__: read_at(door, digits) for door in DOORS} == dict.fromkeys(
        (door.__name__ for door in DOORS), value
    )


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
@pytest.mark.parametrize("digits", ["18446744073709551617", "9" * 78, "0.1234567890123456789"])
def test_digits_that_would_be_lost_are_refused_by_name(
    door: Callable[[str], Any], digits: str
) -> None:
    assert read_at(door, digits) is REFUSED
    assert read_at(door, f'"{digits}"') == (str, digits)


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_what_postgresql_can_not_hold_is_replaced_at_every_door(door: Callable[[str], Any]) -> None:
    assert door(r'{"a\u0000": "x\u0000y"}') == {"a\ufffd": "x\ufffdy"}


@pytest.mark.parametrize("spelling", ["012", "1:30", "1_000", "0x1F", ".5", ".nan"])
def test_a_number_that_only_yaml_knows_is_refused(spelling: str) -> None:
    with pytest.raises(UnreadableDocument, match=re.escape(f"line 1: {spelling} is no number")):
        read_document(f"config: {spelling}")


def test_a_declaration_is_refused_where_a_field_is_there_twice() -> None:
    with pytest.raises(ValueError, match="line 2: 'a' is there twice"):
        read_document("a: 1\na: 2")


def test_a_date_in_a_declaration_is_a_text() -> None:
    fields = {"id": "a", "name": "n", "description": "d", "endpoint": "http://a"}
    document = {**fields, **read_document("config: {since: 2026-02-30}")}
    assert parse(document, source="s").config["since"] == "2026-02-30"
