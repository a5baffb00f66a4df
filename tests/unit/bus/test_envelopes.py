"""What producers put around a message is read with `auto`, and refused by its name with `json`."""

import base64
import json
from dataclasses import dataclass
from typing import get_args

import pytest

from orchestrator.bus.cloud_events import unwrap
from orchestrator.bus.headers import headers_to_text
from orchestrator.bus.options import ValueFormat
from orchestrator.domain.errors import InvalidMessage
from orchestrator.domain.json import JsonObject

TASK: JsonObject = {"task_description": "Register ACME", "event_data": {"n": 1}}
PLAIN = json.dumps(TASK)
SCHEMA = {"type": "struct", "optional": False, "fields": []}
SOURCE = {"connector": "postgresql", "table": "outbox"}
GUID = bytes.fromhex("dd4879133e6441d580732363f225286a")
EVENT = {"specversion": "1.0", "id": "4711", "source": "/shop", "type": "order"}


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A value as a producer sends it, and what its name is where it is refused."""

    value: bytes
    named: str
    headers: tuple[tuple[str, bytes], ...] = ()


def wrapped(document: object, named: str) -> Sent:
    return Sent(value=json.dumps(document).encode(), named=named)


def connect(payload: object) -> Sent:
    return wrapped({"schema": SCHEMA, "payload": payload}, "Kafka Connect's envelope")


def change(after: object, op: str = "c") -> Sent:
    event = {"before": None, "after": after, "source": SOURCE, "op": op, "ts_ms": 1}
    return wrapped(event, "Debezium's change event")


OUTBOX_ROW = {"id": "e-1", "aggregatetype": "task", "aggregateid": "t", "type": "T"}
PRODUCERS = {
    # confluent-kafka 2.16 JSONSerializer, KafkaJsonSchemaSerializer, Connect's JsonSchemaConverter
    "Confluent JSON Schema": Sent(
        value=b"\x00\x00\x00\x00\x01" + PLAIN.encode(), named="in Confluent's wire format"
    ),
    "Confluent with a GUID in front": Sent(
        value=b"\x01" + GUID + PLAIN.encode(), named="in Confluent's wire format"
    ),
    "Apicurio with eight bytes": Sent(
        value=b"\x00" + bytes(7) + b"\x07" + PLAIN.encode(), named="in Apicurio's wire format"
    ),
    "AWS Glue JSON": Sent(
        value=b"\x03\x00" + GUID + PLAIN.encode(), named="in AWS Glue's wire format"
    ),
    "Connect JsonConverter": connect(TASK),
    "Connect with a text": connect(PLAIN),
    "Debezium outbox router": wrapped(PLAIN, "a text that holds JSON"),
    "Debezium outbox router with schemas": connect(PLAIN),
    "Debezium outbox envelope": wrapped(
        {"eventType": "T", "payload": PLAIN}, "an envelope with a payload"
    ),
    "Debezium of an outbox table": change({**OUTBOX_ROW, "payload": PLAIN}),
    "Debezium of a table of tasks": change(TASK, op="r"),
    "Debezium with schemas": connect(json.loads(change({"payload": TASK}).value)),
    "JSON in a text": wrapped(PLAIN, "a text that holds JSON"),
    "JSON in a text in a text": wrapped(json.dumps(PLAIN), "a text that holds JSON"),
    "Confluent JSON Schema of a text": Sent(
        value=b"\x00\x00\x00\x00\x01" + json.dumps(PLAIN).encode(),
        named="in Confluent's wire format",
    ),
}


@pytest.mark.parametrize("sent", PRODUCERS.values(), ids=PRODUCERS.keys())
def test_a_producers_message_is_read_as_it_comes(sent: Sent) -> None:
    assert unwrap(sent.value, (), max_bytes=10_000).data == TASK


@pytest.mark.parametrize("sent", PRODUCERS.values(), ids=PRODUCERS.keys())
def test_with_json_an_envelope_is_refused_by_its_name(sent: Sent) -> None:
    with pytest.raises(InvalidMessage) as caught:
        unwrap(sent.value, (), max_bytes=10_000, value_format="json")
    assert str(caught.value).startswith(f"the value is {sent.named}: set ORCHESTRATOR_VALUE_FORMAT")
    assert caught.value.reason == "schema"


BESIDE = {
    "Confluent": (("__value_schema_id", b"\x01" + GUID),),
    "Apicurio": (("apicurio.value.contentId", bytes(8)),),
    "Azure": (("content-type", b"application/json+5c3f"),),
    "Spring": (("__TypeId__", b"com.example.Task"), ("contentType", b"application/json")),
}


@pytest.mark.parametrize("headers", BESIDE.values(), ids=BESIDE.keys())
def test_a_schema_that_is_named_in_a_header_changes_nothing(
    headers: tuple[tuple[str, bytes], ...],
) -> None:
    text = headers_to_text(headers)
    assert unwrap(PLAIN.encode(), text, max_bytes=10_000).data == TASK
    assert unwrap(PLAIN.encode(), text, max_bytes=10_000, value_format="json").data == TASK


AVRO = b"\x00\x00\x00\x00\x07\x1aRegister ACME"
BINARY = {
    "Confluent Avro": (AVRO, (), "in Confluent's wire format and holds Avro or Protobuf"),
    "Confluent Protobuf": (b"\x00\x00\x00\x00\x07\x00\n\x04ACME", (), "Avro or Protobuf"),
    "AWS Glue Avro": (b"\x03\x00" + GUID + b"\x1aACME", (), "AWS Glue's wire format"),
    "AWS Glue, compressed": (b"\x03\x05" + GUID + b"x\x9c", (), "AWS Glue's wire format, compress"),
    "Avro with a header of Confluent": (b"\x1aACME", BESIDE["Confluent"], "(header __value_schema"),
    "Avro with a header of Apicurio": (b"\x1aACME", BESIDE["Apicurio"], "(header apicurio.value."),
    "Avro of Azure": (b"\x1aACME", (("content-type", b"avro/binary+5c3f"),), "Avro (content-type"),
    "Protobuf by its type": (
        b"\n\x04ACME",
        (("content-type", b"application/x-protobuf"),),
        "Protobuf (content-type",
    ),
}


@pytest.mark.parametrize(("value", "headers", "named"), BINARY.values(), ids=BINARY.keys())
def test_avro_and_protobuf_are_named_with_what_to_use(
    value: bytes, headers: tuple[tuple[str, bytes], ...], named: str
) -> None:
    with pytest.raises(InvalidMessage) as caught:
        unwrap(value, headers_to_text(headers), max_bytes=10_000)
    assert named in str(caught.value)
    assert "only JSON is read: use a JSON Schema serializer" in str(caught.value)
    assert caught.value.reason in ("invalid_json", "invalid_utf8")


EVENTS = {
    "without its header": {**EVENT, "data": TASK},
    "whose data are a text": {**EVENT, "data": PLAIN},
    "of Debezium": {**EVENT, "data": json.loads(connect(TASK).value)},
    "in base64 with framing": {
        **EVENT,
        "data_base64": base64.b64encode(b"\x00\x00\x00\x00\x01" + PLAIN.encode()).decode(),
    },
    "in a text": json.dumps({**EVENT, "data": TASK}),
    "of Connect": json.loads(connect({**EVENT, "data": TASK}).value),
    "with an attribute payload": {**EVENT, "data": TASK, "payload": "gold"},
    "with an attribute op": {**EVENT, "data": TASK, "op": "c"},
}


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS.keys())
def test_a_cloud_event_is_read_through_what_is_around_it(event: object) -> None:
    found = unwrap(json.dumps(event).encode(), (), max_bytes=10_000)
    assert (found.data, found.id, found.source) == (TASK, "4711", "/shop")


@pytest.mark.parametrize("value_format", ["auto", "json"])
def test_an_attribute_of_a_cloud_event_makes_it_no_envelope(value_format: ValueFormat) -> None:
    headers = (("content-type", "application/cloudevents+json"),)
    for name in ("payload", "schema", "op"):
        value = json.dumps({**EVENT, "data": TASK, name: "x"}).encode()
        found = unwrap(value, headers, max_bytes=10_000, value_format=value_format)
        assert (found.data, found.id) == (TASK, "4711")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_named_and_taken_for_no_framing(encoding: str) -> None:
    for value_format in get_args(ValueFormat):
        with pytest.raises(InvalidMessage, match="it is UTF-16"):
            unwrap(PLAIN.encode(encoding), (), max_bytes=10_000, value_format=value_format)


def test_a_binary_cloud_event_may_be_framed() -> None:
    headers = tuple((f"ce_{name}", text) for name, text in EVENT.items())
    found = unwrap(b"\x00\x00\x00\x00\x01" + PLAIN.encode(), headers, max_bytes=10_000)
    assert (found.data, found.id) == (TASK, "4711")


@pytest.mark.parametrize("field", ["payload", "schema", "op", "source", "data", "specversion"])
def test_a_message_of_ours_is_no_envelope(field: str) -> None:
    """Its mistyped field is refused by the contract, as any other."""
    value = json.dumps({**TASK, field: {"task_description": "other"}, "payload": "{}"}).encode()
    assert unwrap(value, (), max_bytes=10_000).data["task_description"] == "Register ACME"


def test_numbers_inside_an_envelope_keep_to_the_rules() -> None:
    inner = '{"task_id": "t", "event_data": {"n": 18446744073709551617}}'
    for value in (json.dumps(inner), json.dumps({"payload": inner}), f'{{"payload": {inner}}}'):
        with pytest.raises(InvalidMessage, match=r"event_data\.n: the integer 1844"):
            unwrap(value.encode(), (), max_bytes=10_000)
