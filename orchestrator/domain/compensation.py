"""How an agent's effect is undone: which agent does it, and with what input.

The input may quote the call that is undone: a text `$input.name` or `$output.a.b` is replaced by
that value, exactly; there are no expressions. A text that begins with `$$` begins with one `$`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from orchestrator.domain.ids import AgentId
from orchestrator.domain.json import JsonObject, JsonValue

SOURCES = ("input", "output")


@dataclass(frozen=True, slots=True, kw_only=True)
class Compensation:
    """As an agent declares it; journaled with each call that it belongs to."""

    agent: AgentId
    input: JsonObject = field(default_factory=dict)


def references(template: JsonValue) -> Iterator[str]:
    """Every quoted value: `output.customer_id`."""
    match template:
        case str() if template.startswith("$") and not template.startswith("$$"):
            yield template[1:]
        case dict():
            for value in template.values():
                yield from references(value)
        case list():
            for value in template:
                yield from references(value)
        case _:
            pass


def filled(template: JsonObject, *, values: JsonObject) -> JsonObject:
    """The input; `values` has `input` and `output` of the call. What is not there is left out."""
    found = _filled(template, values)
    return found[0] if found and isinstance(found[0], dict) else {}


def _filled(template: JsonValue, values: JsonObject) -> tuple[JsonValue] | None:
    match template:
        case str() if template.startswith("$$"):
            return (template[1:],)
        case str() if template.startswith("$"):
            return _value(template[1:].split("."), values)
        case dict():
            parts = {name: _filled(part, values) for name, part in template.items()}
            return ({name: part[0] for name, part in parts.items() if part is not None},)
        case list():
            return ([part[0] for p in template if (part := _filled(p, values)) is not None],)
        case _:
            return (template,)


def _value(path: list[str], values: JsonObject) -> tuple[JsonValue] | None:
    value: JsonValue = values
    for name in path:
        if not isinstance(value, dict) or name not in value:
            return None
        value = value[name]
    return (value,)
