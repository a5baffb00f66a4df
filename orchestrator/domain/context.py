"""A task's context and how changes are folded into it.

The same rule is a SQL function (`context_apply`), so that every earlier version can be read without
Python; a test holds the two equal.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

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


Provider = Literal["agent", "event", "person", "any"]
"""Who gives a required field its value: an agent's answer; an event, the task's own message or a
person; a person's command; any of these, or the planner."""
PROVIDERS: tuple[Provider, ...] = get_args(Provider)

_GIVE_ALSO: Mapping[Provider, tuple[Provider, ...]] = {"person": ("event",)}
"""Whom else these may stand for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The JSON document of a task, `tasks.context`."""

    required_fields: tuple[str, ...] = ()
    providers: Mapping[str, Provider] = field(default_factory=dict)
    """Of the required fields that not just any may provide."""
    current_state: str = "accepted"
    collected_data: JsonObject = field(default_factory=dict)
    event_data: JsonObject = field(default_factory=dict)
    """What the task message and later events brought."""

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "Context":
        return cls(
            required_fields=tuple(document.get("required_fields", ())),
            providers=document.get("providers", {}),
            current_state=document.get("current_state", "accepted"),
            collected_data=document.get("collected_data", {}),
            event_data=document.get("event_data", {}),
        )

    def to_json(self) -> JsonObject:
        providers: JsonObject = {"providers": dict(self.providers)} if self.providers else {}
        return {
            "required_fields": list(self.required_fields),
            **providers,
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

    def open_to(self, who: Provider, names: Iterable[str]) -> tuple[str, ...]:
        """Those of the fields that `who` may provide; `any` is nobody in particular."""
        fitting = ("any", who, *_GIVE_ALSO.get(who, ()))
        return tuple(name for name in names if self.providers.get(name, "any") in fitting)

    def event_change(self, payload: JsonObject, *, by: Provider) -> JsonObject:
        """What data changes: it is kept as it came, and required fields are collected."""
        change: JsonObject = {"event_data": payload}
        found: JsonValue = collected(self.open_to(by, self.required_fields), payload)
        return {**change, "collected_data": found} if found else change

    def labels(self, names: Iterable[str]) -> str:
        """Fields for people and the model: `customer_id, approval (from event)`."""
        given = self.providers
        return ", ".join(f"{n} (from {given[n]})" if n in given else n for n in names)


def collected(fields: Iterable[str], values: JsonObject) -> JsonObject:
    """The part of `values` that belongs into `collected_data`: named in `fields`, and not null."""
    return {name: values[name] for name in fields if values.get(name) is not None}
