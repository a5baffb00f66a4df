"""JSON Schema checks, compiled once a schema. A schema can't make this process fetch anything."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import islice

import jsonschema_rs
import orjson

from orchestrator.domain.json import JsonObject, JsonValue

MAX_VIOLATIONS = 5
MAX_TEXT = 300


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
    return jsonschema_rs.validator_for(orjson.loads(schema), offline=True)


def _problem(error: jsonschema_rs.ValidationError) -> str:
    message = error.message
    if len(message) > MAX_TEXT:
        message = f"{message[:MAX_TEXT]}…"
    path = path_text(error.instance_path)
    return f"{path}: {message}" if path else message


def path_text(path: Sequence[str | int]) -> str:
    """`("items", 0, "name")` as `items[0].name`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text
