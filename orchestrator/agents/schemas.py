"""JSON Schema checks, compiled once a schema. A schema can't make this process fetch anything.

`format` is checked and content keywords are not, whichever draft `$schema` names: the library
decides both by the draft, so that one contract would have two verdicts.
"""

from functools import lru_cache
from itertools import islice
from typing import Any

import jsonschema_rs
import orjson

from orchestrator.domain.json import JsonObject, JsonValue, path_text

MAX_VIOLATIONS = 5
MAX_TEXT = 300

_NEWER_FORMATS = (
    "duration",
    "idn-hostname",
    "iri",
    "iri-reference",
    "json-pointer",
    "relative-json-pointer",
    "uri-reference",
    "uri-template",
    "uuid",
)
_FORMATS = {
    name: jsonschema_rs.validator_for({"format": name}, validate_formats=True).is_valid
    for name in _NEWER_FORMATS
}
"""Those that the library passes over where `$schema` names an older draft than they are of."""


class _Annotation:
    """A keyword that says something and asserts nothing."""

    def __init__(
        self, parent_schema: dict[str, Any], value: Any, schema_path: list[str | int]
    ) -> None:
        pass

    def validate(self, instance: Any) -> None:
        pass


def violations(schema: JsonObject, value: JsonValue) -> list[str]:
    """What is wrong with `value`, as `path: problem`; at most `MAX_VIOLATIONS`, none when valid."""
    try:
        validator = _compiled(orjson.dumps(schema))
    except jsonschema_rs.ValidationError as error:
        return [f"its schema can't be used: {_problem(error)}"]
    if validator.is_valid(value):
        return []
    return [_problem(error) for error in islice(validator.iter_errors(value), MAX_VIOLATIONS)]


def schema_errors(schema: JsonObject) -> list[str]:
    """Why `schema` can't be used as a JSON Schema; empty when it can."""
    try:
        _compiled(orjson.dumps(schema))
    except jsonschema_rs.ValidationError as error:
        return [_problem(error)]
    return []


@lru_cache(maxsize=1024)
def _compiled(schema: bytes) -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for(
        orjson.loads(schema),
        offline=True,
        validate_formats=True,
        formats=_FORMATS,
        keywords={"contentEncoding": _Annotation, "contentMediaType": _Annotation},
    )


def _problem(error: jsonschema_rs.ValidationError) -> str:
    message = error.message
    if len(message) > MAX_TEXT:
        message = f"{message[:MAX_TEXT]}…"
    path = path_text(error.instance_path)
    return f"{path}: {message}" if path else message
