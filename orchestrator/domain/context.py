"""A task's context and how changes are folded into it.

The same rule is a SQL function (`context_apply`), so that every earlier version can be read without
Python; a test holds the two equal.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from orchestrator.domain.json import JsonObject, JsonValue

MERGED_FIELDS = ("collected_data", "event_data")
"""Objects of which a change names only the keys that it sets; other fields are replaced whole."""


def apply_change(context: JsonObject, change: JsonObject | None) -> JsonObject:
    """The context after a step's change. Stored changes depend on this rule: never alter it."""
    if not change:
        return context
    after = {**context, **change}
    for name in MERGED_FIELDS:
        before, changed = context.get(name), change.get(name)
        if isinstance(before, dict) and isinstance(changed, dict):
            after[name] = {**before, **changed}
    return after


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The JSON document of a task, `tasks.context`."""

    required_fields: tuple[str, ...] = ()
    current_state: str = "accepted"
    collected_data: JsonObject = field(default_factory=dict)
    event_data: JsonObject = field(default_factory=dict)
    """What the task message and later events brought."""

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "Context":
        return cls(
            required_fields=tuple(document.get("required_fields", ())),
            current_state=document.get("current_state", "accepted"),
            collected_data=document.get("collected_data", {}),
            event_data=document.get("event_data", {}),
        )

    def to_json(self) -> JsonObject:
        return {
            "required_fields": list(self.required_fields),
            "current_state": self.current_state,
            "collected_data": self.collected_data,
            "event_data": self.event_data,
        }

    @property
    def missing(self) -> tuple[str, ...]:
        """The required fields that have no value yet, in the order in which they were asked for."""
        return tuple(f for f in self.required_fields if self.collected_data.get(f) is None)

    @property
    def is_complete(self) -> bool:
        """Whether a rule can say that the task is done; never for a task that requires no field."""
        return bool(self.required_fields) and not self.missing

    def apply(self, change: JsonObject | None) -> "Context":
        return Context.from_json(apply_change(self.to_json(), change)) if change else self


def collected(fields: Iterable[str], values: JsonObject) -> JsonObject:
    """The part of `values` that belongs into `collected_data`: named in `fields`, and not null."""
    return {name: values[name] for name in fields if values.get(name) is not None}


def event_change(required_fields: Iterable[str], payload: JsonObject) -> JsonObject:
    """What an event's data changes: it is kept as it came, and required fields are collected."""
    change: JsonObject = {"event_data": payload}
    found: JsonValue = collected(required_fields, payload)
    return {**change, "collected_data": found} if found else change
