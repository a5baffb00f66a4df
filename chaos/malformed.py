"""Every kind of message that can't be used: what it is, its bytes, and the reason it must get.

For the unit tests of the contract, and for tests that mix them among good messages in Kafka.
"""

import json
from dataclasses import dataclass

Headers = tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed:
    """A message that becomes a dead letter."""

    what: str
    value: bytes | None
    reason: str
    topic: str = "tasks"
    headers: Headers = ()
    mentions: str = ""
    """What a person must find in the error's text."""


MAX_BYTES = 1_000_000


def _task(fields: str) -> bytes:
    return b'{"task_description": "x", ' + fields.encode() + b"}"


def _event(fields: str) -> bytes:
    return b'{"task_id": "t", ' + fields.encode() + b"}"


def _nested(depth: int) -> bytes:
    return (
        b'{"task_description": "x", "event_data": ' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"
    )


def _quoted(text: str, times: int) -> bytes:
    for _ in range(times):
        text = json.dumps(text)
    return text.encode()


STRUCTURED: Headers = (("content-type", b"application/cloudevents+json; charset=utf-8"),)
BATCHED: Headers = (("content-type", b"application/cloudevents-batch+json"),)
OLD_BINARY: Headers = (
    ("ce_specversion", b"0.3"),
    ("ce_id", b"1"),
    ("ce_source", b"s"),
    ("ce_type", b"t"),
)

_NOT_A_MESSAGE = (
    ("no value", None, "null_value", "no value"),
    ("an empty value", b"", "invalid_json", "empty"),
    ("blanks alone", b" \n\t ", "invalid_json", "empty"),
    ("a text that is no JSON", b"hello", "invalid_json", "line 1 column 1"),
    ("an object that is cut off", b'{"task_description": "x"', "invalid_json", "line 1"),
    ("a comma too many", b'{"task_description": "x",}', "invalid_json", "line 1"),
    ("two objects", b'{"task_description": "x"} {}', "invalid_json", "line 1"),
    ("single quotes", b"{'task_description': 'x'}", "invalid_json", "line 1"),
    ("a comment", b'// hi\n{"task_description": "x"}', "invalid_json", "line 1"),
    ("NaN", _task('"event_data": {"a": NaN}'), "invalid_json", "NaN"),
    ("Infinity", _task('"event_data": {"a": Infinity}'), "invalid_json", "Infinity"),
    ("minus Infinity", _task('"event_data": {"a": -Infinity}'), "invalid_json", "-Infinity"),
    ("a number beyond a double", _task('"event_data": {"a": 1e400}'), "invalid_json", "1e400"),
    (
        "an integer beyond 64 bits",
        _task('"event_data": {"a": 18446744073709551616}'),
        "invalid_json",
        "18446744073709551616",
    ),
    (
        "an integer of many digits",
        _task(f'"budget_tokens": {"9" * 5000}'),
        "invalid_json",
        "64 bit",
    ),
    ("a raw line break in a text", b'{"task_description": "x\ny"}', "invalid_json", "line 1"),
    ("a raw NUL in a text", b'{"task_description": "x\x00y"}', "invalid_json", "line 1"),
    ("bytes that are no UTF-8", b'{"task_description": "\xff\xfe"}', "invalid_utf8", "0xff"),
    ("Latin-1", '{"task_description": "é"}'.encode("latin-1"), "invalid_utf8", "position 22"),
    ("UTF-16", '{"task_description": "x"}'.encode("utf-16"), "invalid_utf8", "UTF-16"),
    ("a surrogate in UTF-8", b'{"task_description": "\xed\xa0\x80"}', "invalid_utf8", "0xed"),
    ("a gzip file", b"\x1f\x8b\x08\x00\x00\x00\x00\x00", "invalid_utf8", "gzip"),
    ("Avro with a schema id", b"\x00\x00\x00\x00\x01\x02x", "invalid_json", "Avro or Protobuf"),
    ("compressed by AWS Glue", b"\x03\x05" + b"x" * 20, "invalid_json", "AWS Glue"),
    ("an Avro file", b"Obj\x01\x04", "invalid_json", "an Avro file"),
    ("a Java object", b"\xac\xed\x00\x05t\x00", "invalid_utf8", "Java"),
    ("a document of XML", b"<task/>", "invalid_json", "XML"),
    ("a text with a broken object in it", b'"{\\"a\\": "', "invalid_json", "the text in the value"),
    (
        "a fraction of 19 digits",
        _task('"event_data": {"a": 0.1234567890123456789}'),
        "invalid_json",
        "event_data.a: the number 0.123",
    ),
    ("an envelope without content", b'{"schema": null, "payload": null}', "null_value", "Connect"),
    ("an envelope with too little in it", b'{"payload": {"event_data": {}}}', "schema", "missing"),
    (
        "a deleted row",
        b'{"before": {}, "after": null, "source": {}, "op": "d"}',
        "schema",
        "Debezium",
    ),
    ("more than the limit", b'"' + b"x" * MAX_BYTES + b'"', "too_large", str(MAX_BYTES)),
    ("65 levels", _nested(65), "too_deep", "64"),
    ("a hundred thousand levels", b"[" * 100_000, "too_deep", "64"),
    ("a hundred thousand closed levels", b"[" * 100_000 + b"]" * 100_000, "too_deep", "64"),
    ("null", b"null", "schema", "null"),
    ("a list", b'[{"task_description": "x"}]', "schema", "a list"),
    ("a text", b'"task"', "schema", "a text"),
    (
        "text in text in text",
        json.dumps(json.dumps(json.dumps(json.dumps(json.dumps("{}"))))).encode(),
        "schema",
        "a text",
    ),
    ("a number", b"42", "schema", "a number"),
    ("a boolean", b"true", "schema", "a boolean"),
)

_NOT_A_TASK = (
    ("an empty object", b"{}", "task_description: missing"),
    ("a description that is null", b'{"task_description": null}', "task_description: missing"),
    ("a description that is blank", b'{"task_description": " "}', "not blank"),
    ("a description that is a number", b'{"task_description": 5}', "task_description: got 5"),
    ("a description that is a list", b'{"task_description": ["x"]}', "task_description"),
    ("a mistyped field", _task('"requiered_fields": ["a"]'), "did you mean 'required_fields'"),
    ("a field of nobody", _task('"zzz": 1'), "metadata"),
    ("an id that is empty", _task('"task_id": ""'), "task_id"),
    ("an id that is a number", _task('"task_id": 7'), "task_id: got 7"),
    ("an id that is too long", _task(f'"task_id": "{"x" * 201}"'), "200"),
    ("an id with a line break", _task('"task_id": "a\\nb"'), "printable"),
    ("required fields that are a text", _task('"required_fields": "a"'), "required_fields"),
    ("a required field that is a number", _task('"required_fields": ["a", 1]'), "[1]"),
    ("a required field that is empty", _task('"required_fields": ["a", ""]'), "[1]"),
    ("a required field that comes twice", _task('"required_fields": ["a", "a"]'), "distinct"),
    (
        "a hundred and one required fields",
        _task('"required_fields": [' + ",".join(f'"f{n}"' for n in range(101)) + "]"),
        "at most 100",
    ),
    ("event data that are a list", _task('"event_data": []'), "event_data"),
    ("event data that are a text", _task('"event_data": "x"'), "event_data"),
    ("metadata that are a list", _task('"metadata": [1]'), "metadata"),
    ("a kind that comes later", _task('"kind": "flow"'), "supported: agentic"),
    ("a kind of nobody", _task('"kind": "zzz"'), "supported: agentic"),
    ("a flow", _task('"flow_id": "f"'), "flow_id"),
    ("a priority that is a number", _task('"priority": 1'), "'high', 'normal' or 'low'"),
    ("a priority of nobody", _task('"priority": "urgent"'), "'high', 'normal' or 'low'"),
    ("a deadline that is a number", _task('"deadline": 1893456000'), "RFC 3339"),
    ("a deadline without an offset", _task('"deadline": "2030-01-31T12:00:00"'), "offset"),
    ("a deadline that is a date", _task('"deadline": "2030-01-31"'), "RFC 3339"),
    ("a deadline that is no day", _task('"deadline": "2030-02-31T12:00:00Z"'), "RFC 3339"),
    ("a deadline before year 1", _task('"deadline": "0001-01-01T00:00:00+23:59"'), "deadline"),
    ("a budget of nothing", _task('"budget_tokens": 0'), "budget_tokens"),
    ("a budget below nothing", _task('"budget_tokens": -1'), "budget_tokens"),
    ("a budget that is a fraction", _task('"budget_tokens": 1.5'), "budget_tokens"),
    ("a budget that is true", _task('"budget_tokens": true'), "budget_tokens"),
    ("a budget beyond bigint", _task('"budget_tokens": 9223372036854775808'), "budget_tokens"),
    ("a budget that is a number", _task('"budget": 5'), "budget: got 5, expected an object"),
    ("a budget with a mistyped field", _task('"budget": {"token": 5}'), "did you mean 'tokens'"),
    ("a budget that costs nothing", _task('"budget": {"cost": 0}'), "budget.cost: got 0"),
    ("a budget beyond all money", _task('"budget": {"cost": 1e300}'), "budget.cost"),
    ("a budget of half a step", _task('"budget": {"steps": 0.5}'), "budget.steps"),
    ("a budget that begs", _task('"budget": {"when_exhausted": "beg"}'), "'wait' or 'fail'"),
    (
        "two budgets that differ",
        _task('"budget_tokens": 5, "budget": {"tokens": 6}'),
        "budget_tokens is 5 and budget.tokens is 6: give one of the two",
    ),
    ("a tenant that is empty", _task('"tenant": ""'), "tenant"),
    ("a tenant that is too long", _task(f'"tenant": "{"x" * 101}"'), "tenant"),
    ("fields of an event", _task('"event_type": "data"'), "event_type"),
)

_NOT_AN_EVENT = (
    ("an event without a task", b'{"event_data": {"a": 1}}', "task_id: missing"),
    ("an event whose task is null", b'{"task_id": null}', "task_id: missing"),
    ("an event type that is a number", _event('"event_type": 1'), "event_type"),
    ("an event type that is empty", _event('"event_type": ""'), "event_type"),
    ("the engine's own event type", _event('"event_type": "timeout"'), "reserved"),
    ("a task among the events", _event('"event_type": "task"'), "reserved"),
    ("an event id that is a number", _event('"event_id": 1'), "event_id"),
    ("a step below one", _event('"step": 0'), "step"),
    ("a step beyond integer", _event('"step": 2147483648'), "step"),
    ("a call that is a text", _event('"call": "1"'), "call"),
    ("a result without its call", _event('"event_type": "agent_result", "step": 1'), "call"),
    ("a result without its step", _event('"event_type": "agent_result", "call": 1'), "step"),
    (
        "a result of no known status",
        _event('"event_type": "agent_result", "step": 1, "call": 1, "status": "ok"'),
        "input_required",
    ),
    ("an output that answers no call", _event('"output": {"a": 1}'), "agent_result"),
    ("a field of nobody in an event", _event('"evnt_data": {}'), "did you mean 'event_data'"),
)

_NOT_A_CLOUD_EVENT = (
    ("a batch of CloudEvents", b"[]", BATCHED, "one CloudEvent a message"),
    ("a CloudEvent without attributes", b"{}", STRUCTURED, "specversion"),
    (
        "a CloudEvent without data",
        b'{"specversion": "1.0", "id": "1", "source": "s", "type": "t"}',
        STRUCTURED,
        "'data'",
    ),
    (
        "a CloudEvent of another version",
        b'{"specversion": "0.3", "id": "1", "source": "s", "type": "t", "data": {}}',
        STRUCTURED,
        "0.3",
    ),
    (
        "a CloudEvent whose data are no base64",
        b'{"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data_base64": "?"}',
        STRUCTURED,
        "base64",
    ),
    ("a binary CloudEvent of another version", b'{"task_description": "x"}', OLD_BINARY, "0.3"),
)

MALFORMED: tuple[Malformed, ...] = (
    *(
        Malformed(what=what, value=value, reason=reason, mentions=mentions)
        for what, value, reason, mentions in _NOT_A_MESSAGE
    ),
    *(
        Malformed(what=what, value=value, reason="schema", mentions=mentions)
        for what, value, mentions in _NOT_A_TASK
    ),
    *(
        Malformed(what=what, value=value, reason="schema", mentions=mentions, topic="events")
        for what, value, mentions in _NOT_AN_EVENT
    ),
    *(
        Malformed(what=what, value=value, reason="schema", headers=headers, mentions=mentions)
        for what, value, headers, mentions in _NOT_A_CLOUD_EVENT
    ),
)
