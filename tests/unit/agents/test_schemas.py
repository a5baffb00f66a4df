"""Schema checks: readable, bounded, and without a way to the network."""

import pytest

from orchestrator.agents.schemas import MAX_VIOLATIONS, schema_errors, violations
from orchestrator.domain.json import JsonObject, path_text

CUSTOMER: JsonObject = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string"}, "tags": {"items": {"type": "string"}}},
}


def test_a_valid_value_has_no_violations() -> None:
    assert violations(CUSTOMER, {"name": "ACME", "tags": ["x"]}) == []


def test_a_violation_says_where_and_what() -> None:
    assert violations(CUSTOMER, {"name": 5, "tags": ["x", 1]}) == [
        'name: 5 is not of type "string"',
        'tags[1]: 1 is not of type "string"',
    ]
    assert violations(CUSTOMER, {}) == ['"name" is a required property']


def test_violations_are_bounded_in_number_and_length() -> None:
    found = violations(CUSTOMER, {"name": "x", "tags": [["y" * 10_000]] * 100})
    assert len(found) == MAX_VIOLATIONS
    assert max(len(text) for text in found) < 400


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/schema", "https://example.com/s", "file:///etc/hostname"]
)
def test_a_remote_reference_is_never_fetched(url: str) -> None:
    (problem,) = schema_errors({"$ref": url})
    assert "Retrieval is disabled" in problem


@pytest.mark.parametrize(
    "schema",
    [{"type": 5}, {"pattern": "("}, {"$ref": "#/$defs/none"}, {"$schema": "http://x/unknown"}],
)
def test_what_is_no_schema_is_told(schema: JsonObject) -> None:
    assert len(schema_errors(schema)) == 1
    assert violations(schema, {})[0].startswith("its schema can't be used: ")


def test_an_older_draft_is_understood() -> None:
    draft4: JsonObject = {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "maximum": 5,
        "exclusiveMaximum": True,
    }
    assert schema_errors(draft4) == []
    assert len(violations(draft4, 5)) == 1


def test_a_path_reads_like_code() -> None:
    assert path_text(["items", 0, "name"]) == "items[0].name"
    assert path_text([]) == ""
