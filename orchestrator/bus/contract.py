"""The fields of a message on `tasks` and on `events`, and what each of them has to be.

Unknown fields are refused, with the known ones named: a mistyped `requiered_fields` would be lost
silently else. `metadata` takes whatever else a sender wants to say. A field that is null is a field
that is absent.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Self, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
)

from orchestrator.bus.decoding import shown
from orchestrator.domain.budget import (
    MAX_COST,
    MAX_COUNT,
    MAX_TOKENS,
    Budget,
    WhenExhausted,
    micros,
)
from orchestrator.domain.context import PROVIDERS, Provider
from orchestrator.domain.errors import InvalidMessage
from orchestrator.domain.event import AGENT_RESULT, DATA, GIVEN, TIMEOUT, TOP_UP
from orchestrator.domain.json import JsonObject

MAX_ID, MAX_NAME, MAX_FIELDS, MAX_SHOWN_ERRORS = 200, 100, 100, 5
SUPPORTED_KINDS = ("agentic",)
RESERVED_EVENT_TYPES = ("task", TIMEOUT, GIVEN)


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("unprintable")
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("blank")
    return text


def _object(value: object) -> JsonObject:
    if not isinstance(value, dict):
        raise ValueError("no object")  # noqa: TRY004 - pydantic turns no TypeError into its own
    return value


def _required_field(value: str | JsonObject) -> str | JsonObject:
    """A name, or one with who provides it."""
    given = value if isinstance(value, dict) else {"name": value}
    name = given.get("name")
    if not isinstance(name, str) or not 0 < len(_not_blank(name)) <= MAX_ID:
        raise ValueError("no name")
    if not set(given) <= {"name", "from"} or given.get("from", "any") not in PROVIDERS:
        raise ValueError("nobody can provide it")
    return value


def _distinct(fields: list[str | JsonObject]) -> list[str | JsonObject]:
    names = {field if isinstance(field, str) else field["name"] for field in fields}
    if len(names) < len(fields):
        raise ValueError("twice")
    return fields


def _instant(value: object) -> datetime:
    if not isinstance(value, str) or "T" not in value.upper():
        raise ValueError("no time")
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError("no offset")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("not in the years 1 to 9999") from error


Id = Annotated[str, Field(min_length=1, max_length=MAX_ID), AfterValidator(_printable)]
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME), AfterValidator(_printable)]
RequiredField = Annotated[
    str | JsonObject,
    PlainValidator(_required_field),
    WithJsonSchema({"type": ["string", "object"]}),
]
Object = Annotated[JsonObject, PlainValidator(_object), WithJsonSchema({"type": "object"})]
Instant = Annotated[
    datetime, BeforeValidator(_instant), WithJsonSchema({"type": "string", "format": "date-time"})
]
Names = Annotated[list[RequiredField], Field(max_length=MAX_FIELDS), AfterValidator(_distinct)]
PriorityName = Literal["critical", "high", "normal", "low"]
Positive = Annotated[int, Field(gt=0, le=MAX_COUNT)]
Tokens = Annotated[int, Field(gt=0, le=MAX_TOKENS)]
Amount = Annotated[float, Field(gt=0, le=MAX_COST)]

_TEXT = f"a text of 1 to {MAX_ID} printable characters"
_NAME = f"a text of 1 to {MAX_NAME} printable characters"
_OBJECT = "an object"
_POSITIVE = "a number from 1"
_AMOUNT = f"a number above 0, {MAX_COST:.0f} at most"
EXPECTED = {
    "task_id": _TEXT,
    "task_description": "a text that is not blank",
    "required_fields": f"a list of at most {MAX_FIELDS} distinct texts that are not blank, or of "
    f'{{"name": a text, "from": {" | ".join(PROVIDERS)}}}',
    "event_data": _OBJECT,
    "kind": _NAME,
    "flow_id": "null (flows are not supported yet)",
    "priority": "'critical', 'high', 'normal' or 'low'",
    "deadline": "a time with its offset (RFC 3339), like 2030-01-31T12:00:00Z",
    "budget_tokens": _POSITIVE,
    "budget": "an object",
    "budget.tokens": _POSITIVE,
    "budget.cost": _AMOUNT,
    "budget.steps": _POSITIVE,
    "budget.attempts": _POSITIVE,
    "budget.seconds": _AMOUNT,
    "budget.when_exhausted": "'wait' or 'fail'",
    "tenant": _NAME,
    "metadata": _OBJECT,
    "event_type": _NAME,
    "event_id": _TEXT,
    "step": _POSITIVE,
    "call": _POSITIVE,
    "status": "'success', 'error' or 'input_required'",
    "output": _OBJECT,
    "error_message": "a text",
    "retryable": "true or false",
    "usage": _OBJECT,
}


class BudgetFields(BaseModel):
    """What a task may use, and what a `top_up` adds to it."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    tokens: Tokens | None = None
    cost: Amount | None = None
    steps: Positive | None = None
    attempts: Positive | None = None
    seconds: Amount | None = None
    when_exhausted: WhenExhausted | None = None

    def read(self, *, tokens: int | None) -> Budget:
        """`tokens` are those of the short form, `budget_tokens`."""
        return Budget(
            tokens=self.tokens or tokens,
            cost_micros=None if self.cost is None else micros(self.cost),
            steps=self.steps,
            attempts=self.attempts,
            seconds=self.seconds,
            when_exhausted=self.when_exhausted or "fail",
        )


NESTED = {"budget": tuple(BudgetFields.model_fields)}
"""The fields of the fields that have some of their own."""


class _Message(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    @classmethod
    def read(cls, data: JsonObject) -> Self:
        """The message, checked.

        Raises:
            InvalidMessage: `schema`, with every field that is wrong, and what it should be.
        """
        present: JsonObject = {n: value for n, value in data.items() if value is not None}
        # Pydantic would make an error of each unknown name, and there may be very many.
        strange = {"": _take_unknown(present, cls.model_fields)}
        for name, inner in NESTED.items():
            value = present.get(name)
            if name in cls.model_fields and isinstance(value, dict):
                present[name] = fields = dict(value)
                strange[name] = _take_unknown(fields, inner)
        try:
            message = cls.model_validate(present)
        except ValidationError as error:
            found = error.errors(include_url=False)
            text = explain(found, known=cls.model_fields, unknown=strange)
            raise InvalidMessage("schema", text) from error
        if any(strange.values()):
            raise InvalidMessage("schema", explain((), known=cls.model_fields, unknown=strange))
        return message


def _take_unknown(fields: JsonObject, known: Container[str]) -> list[str]:
    """Takes the fields that are not known out of these; answers their names."""
    unknown = [name for name in fields if name not in known]
    for name in unknown:
        del fields[name]
    return unknown


class TaskMessage(_Message):
    """A value on `tasks`. Only `task_description` is needed."""

    task_id: Id | None = None
    task_description: Annotated[str, AfterValidator(_not_blank)]
    required_fields: Names = []
    event_data: Object = {}
    kind: Name = "agentic"
    flow_id: None = None
    priority: PriorityName = "normal"
    deadline: Instant | None = None
    budget_tokens: Tokens | None = None
    """A short form of `budget.tokens`."""
    budget: BudgetFields = BudgetFields()
    tenant: Name = "default"
    metadata: Object = {}

    @property
    def providers(self) -> dict[str, Provider]:
        """Of each required field who provides it."""
        fields = ({"name": f} if isinstance(f, str) else f for f in self.required_fields)
        return {str(f["name"]): cast("Provider", f.get("from", "any")) for f in fields}


class EventMessage(_Message):
    """A value on `events`. Only `task_id` is needed."""

    task_id: Id
    event_type: Name = DATA
    event_id: Id | None = None
    step: Positive | None = None
    """With `call`: which call of the task's journal this answers."""
    call: Positive | None = None
    event_data: Object = {}
    task_description: Annotated[str, AfterValidator(_not_blank)] | None = None
    required_fields: Names | None = None
    kind: Name | None = None
    flow_id: None = None
    priority: PriorityName | None = None
    deadline: Instant | None = None
    budget_tokens: Tokens | None = None
    budget: BudgetFields | None = None
    """What a `top_up` adds."""
    tenant: Name | None = None
    metadata: Object | None = None
    # What an agent's answer consists of: for `agent_result` alone.
    status: Literal["success", "error", "input_required"] | None = None
    output: Object | None = None
    error_message: str | None = None
    retryable: bool | None = None
    usage: Object | None = None

    @property
    def payload(self) -> JsonObject:
        """What the task is told: the event's data, and the other fields that say something."""
        told = self.model_dump(
            mode="json",
            exclude_none=True,
            exclude={"task_id", "event_type", "event_id", "step", "call", "event_data"}
            | {"kind", "flow_id", "tenant", "priority", "deadline", "budget_tokens"},
        )
        if self.event_type == TOP_UP:
            return {**self.event_data, **told}  # the budget that was checked
        return {**told, **self.event_data}


RESULT_FIELDS = ("status", "output", "error_message", "retryable", "usage")


def check_kind(message: TaskMessage) -> None:
    if message.kind not in SUPPORTED_KINDS:
        raise InvalidMessage(
            "schema",
            f"kind {message.kind!r} is not supported yet; supported: {', '.join(SUPPORTED_KINDS)}",
        )


def check_budget(message: TaskMessage) -> None:
    short, whole = message.budget_tokens, message.budget.tokens
    if short is not None and whole is not None and short != whole:
        raise InvalidMessage(
            "schema",
            f"budget_tokens is {short} and budget.tokens is {whole}: give one of the two",
        )


def _check_top_up(message: EventMessage) -> None:
    budget = message.budget
    if message.event_type != TOP_UP:
        if budget is not None:
            raise InvalidMessage(
                "schema",
                f"budget belongs to event_type {TOP_UP!r}, not to {message.event_type!r}",
            )
        return
    amounts = () if budget is None else (n for n, v in budget if v and n != "when_exhausted")
    if budget is None or budget.when_exhausted is not None or not any(amounts):
        raise InvalidMessage(
            "schema",
            "budget: expected with event_type 'top_up' what is added, one or more of tokens, cost, "
            "steps, attempts, seconds",
        )


def check_event(message: EventMessage) -> None:
    if message.event_type in RESERVED_EVENT_TYPES:
        raise InvalidMessage(
            "schema", f"event_type {message.event_type!r} is reserved: send another, or none"
        )
    _check_top_up(message)
    if message.event_type == AGENT_RESULT:
        absent = [name for name in ("step", "call") if getattr(message, name) is None]
        if absent:
            raise InvalidMessage(
                "schema",
                f"{' and '.join(absent)}: missing, expected with event_type 'agent_result' the "
                "numbers of the call that it answers",
            )
        return
    for name in RESULT_FIELDS:
        if getattr(message, name) is not None:
            raise InvalidMessage(
                "schema",
                f"{name} belongs to event_type 'agent_result', not to {message.event_type!r}: "
                "put data into event_data",
            )


def explain(
    errors: Sequence[Any], *, known: Iterable[str], unknown: Mapping[str, Sequence[str]]
) -> str:
    """What is wrong, in our words: one clause a field, the first few of them.

    `errors` are Pydantic's; `unknown` are names that no field has, by the field that they are in.
    """
    clauses = [
        f"{field}: {_unknown(names, NESTED[field])}" if field else _unknown(names, list(known))
        for field, names in unknown.items()
        if names
    ]
    clauses += dict.fromkeys(_clause(e) for e in errors)
    more = len(clauses) - MAX_SHOWN_ERRORS
    return "; ".join(clauses[:MAX_SHOWN_ERRORS] + ([f"and {more} more"] if more > 0 else []))


def _unknown(fields: Sequence[str], known: Sequence[str]) -> str:
    # Cut: a near name is looked for in time that grows with the square of the length.
    first = fields[0][:MAX_NAME]
    close = get_close_matches(first, known, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    more = f" and {len(fields) - 1} more" if len(fields) > 1 else ""
    return f"unknown field {shown(fields[0])}{hint}{more}; known are {', '.join(known)}"


def _clause(error: Any) -> str:
    loc = error["loc"]
    field = ".".join(str(part) for part in loc[: 2 if loc[0] in NESTED else 1])
    expected = EXPECTED[field]
    if error["type"] == "missing":
        return f"{field}: missing, expected {expected}"
    place = field + "".join(f"[{part}]" for part in error["loc"][1:] if isinstance(part, int))
    return f"{place}: got {shown(error['input'])}, expected {expected}"
