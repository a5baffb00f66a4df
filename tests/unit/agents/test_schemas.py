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


DRAFTS = (
    "http://json-schema.org/draft-04/schema#",
    "http://json-schema.org/draft-06/schema#",
    "http://json-schema.org/draft-07/schema#",
    "https://json-schema.org/draft/2019-09/schema",
    "https://json-schema.org/draft/2020-12/schema",
)


def drafted(keyword: str, value: str) -> list[JsonObject]:
    """The same contract without `$schema`, and under each draft."""
    contract: JsonObject = {"type": "object", "properties": {"x": {keyword: value}}}
    return [contract, *({"$schema": draft, **contract} for draft in DRAFTS)]


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("date", "2026-12-01", "1 December"),
        ("date-time", "2026-12-01T10:00:00Z", "2026-12-01 10:00"),
        ("email", "a@b.example", "a"),
        ("ipv4", "127.0.0.1", "127.0.0.256"),
        ("uuid", "6c6f6e67-7461-5bd9-9a7e-5e5b5d3a9f21", "6c6f6e67"),
        ("duration", "P1D", "one day"),
        ("json-pointer", "/a", "a"),
        ("iri", "https://b.example/é", "b c"),
    ],
)
def test_a_format_has_one_verdict_whatever_the_draft(name: str, good: str, bad: str) -> None:
    for schema in drafted("format", name):
        assert violations(schema, {"x": good}) == []
        assert violations(schema, {"x": bad}) == [f'x: "{bad}" is not a "{name}"']
        assert violations(schema, {"x": 5}) == []


@pytest.mark.parametrize(
    ("keyword", "value"), [("contentEncoding", "base64"), ("contentMediaType", "application/json")]
)
def test_a_content_keyword_asserts_nothing_whatever_the_draft(keyword: str, value: str) -> None:
    assert [violations(schema, {"x": "$"}) for schema in drafted(keyword, value)] == [[]] * 6


def test_a_format_that_nobody_knows_is_no_fault_of_the_value() -> None:
    assert [violations(schema, {"x": "$"}) for schema in drafted("format", "zzz")] == [[]] * 6
