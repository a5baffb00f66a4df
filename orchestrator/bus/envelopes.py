"""What producers put around a message's JSON: schema registries' framing, Connect, Debezium.

A message of ours is never mistaken for an envelope: an envelope has `payload` or `op`, which are no
fields of ours, and no field that names a task. Avro and Protobuf are named, and refused.
"""

from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.bus.decoding import as_object, bounded, parsed, shown
from orchestrator.bus.headers import Headers, first
from orchestrator.bus.options import ValueFormat
from orchestrator.domain.errors import InvalidMessage
from orchestrator.domain.json import JsonObject, JsonValue

MAX_LAYERS = 4
"""Of envelopes and texts around a message; Connect around Debezium around a text are three."""

OURS = frozenset({"task_id", "task_description"})
"""Every message of ours has one of them."""

CLOUD_EVENT = ("specversion", "id", "source", "type")
"""What every CloudEvent has at its top. It may have any other attribute too, also `payload`."""

UTF_16 = b"\x00{\x00"
"""How an object in UTF-16 begins: with a zero byte, as framings do."""

SCHEMA_HEADERS = (
    "__value_schema_id",  # Confluent
    "apicurio.value.globalId",
    "apicurio.value.contentId",
)
BINARY_TYPES = ("avro", "protobuf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Framing:
    """Bytes in front of a value that name its schema, as one serializer writes them."""

    name: str
    magic: bytes
    length: int


FRAMINGS = (
    Framing(name="Confluent's wire format", magic=b"\x00", length=5),
    Framing(name="Apicurio's wire format", magic=b"\x00", length=9),
    Framing(name="Confluent's wire format", magic=b"\x01", length=17),
    Framing(name="AWS Glue's wire format", magic=b"\x03\x00", length=18),
)
COMPRESSED_GLUE = b"\x03\x05"

ONLY_JSON = (
    "only JSON is read: use a JSON Schema serializer, or a JSON one without a schema registry "
    "(Connect: JsonConverter)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """An envelope, and what is in it."""

    name: str
    inner: JsonValue
    turned_off: str
    """What a producer sets to send none."""


def read_value(
    value: bytes | None, headers: Headers, *, max_bytes: int, value_format: ValueFormat
) -> JsonObject:
    """The object in a message's value, without what its producer put around it.

    With `json` an envelope is refused by its name.

    Raises:
        InvalidMessage: there is none.
    """
    raw = bounded(value, max_bytes=max_bytes)
    framing = _framing(raw)
    if framing is not None:
        if value_format == "json":
            raise _not_read(f"in {framing.name}", "use a serializer without a schema registry")
        raw = raw[framing.length :]
    return opened(_parsed(raw, framing, headers), value_format=value_format)


def opened(document: JsonValue, *, value_format: ValueFormat) -> JsonObject:
    """The object in a document that may be an envelope, or a text that holds JSON."""
    for _ in range(MAX_LAYERS):
        layer = _layer(document)
        if layer is None:
            break
        if value_format == "json":
            raise _not_read(layer.name, layer.turned_off)
        if layer.inner is None:
            raise InvalidMessage("null_value", f"the value is {layer.name} and its content is null")
        document = layer.inner
    return as_object(document)


def _not_read(name: str, turned_off: str) -> InvalidMessage:
    return InvalidMessage(
        "schema",
        f"the value is {name}: set ORCHESTRATOR_VALUE_FORMAT=auto to read it, or send plain JSON "
        f"({turned_off})",
    )


def _framing(raw: bytes) -> Framing | None:
    """The framing in front of it; the one that fits JSON, where several have the same beginning."""
    if raw.startswith(UTF_16):
        return None
    found = [f for f in FRAMINGS if raw.startswith(f.magic) and len(raw) > f.length]
    return next(
        (f for f in found if _looks_like_json(raw[f.length :])), found[0] if found else None
    )


def _looks_like_json(raw: bytes) -> bool:
    return raw.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b'"')


def _parsed(raw: bytes, framing: Framing | None, headers: Headers) -> JsonValue:
    try:
        return parsed(raw)
    except InvalidMessage as error:
        if raw.startswith(COMPRESSED_GLUE):
            text = f"the value is in AWS Glue's wire format, compressed: {ONLY_JSON}, uncompressed"
            raise InvalidMessage(error.reason, text) from error
        claimed = _binary(framing, headers)
        if claimed is None or _looks_like_json(raw):
            raise
        raise InvalidMessage(error.reason, f"{claimed}: {ONLY_JSON}; {error}") from error


def _binary(framing: Framing | None, headers: Headers) -> str | None:
    """What says that a value which is no JSON is Avro or Protobuf."""
    content_type = (first(headers, "content-type") or "").lower()
    named = next((name for name in BINARY_TYPES if name in content_type), None)
    if named is not None:
        return f"the value is {named.capitalize()} (content-type {shown(content_type)})"
    if framing is not None:
        return f"the value is in {framing.name} and holds Avro or Protobuf"
    header = next((name for name in SCHEMA_HEADERS if first(headers, name) is not None), None)
    return None if header is None else f"the value is Avro or Protobuf (header {header})"


def _layer(document: JsonValue) -> Layer | None:
    match document:
        case str() if document.lstrip().startswith(("{", '"')):
            return Layer(
                name="a text that holds JSON",
                inner=parsed(document, where="the text in the value"),
                turned_off="encode it once; Debezium: table.expand.json.payload=true",
            )
        case dict() if not (OURS & document.keys() or document.keys() >= {*CLOUD_EVENT}):
            return next((layer for find in _ENVELOPES if (layer := find(document))), None)
        case _:
            return None


def _connect(document: JsonObject) -> Layer | None:
    if "payload" not in document:
        return None
    is_connects = "schema" in document
    return Layer(
        name="Kafka Connect's envelope" if is_connects else "an envelope with a payload",
        inner=document["payload"],
        turned_off="value.converter.schemas.enable=false"
        if is_connects
        else "Debezium: table.fields.additional.placement without envelope",
    )


def _debezium(document: JsonObject) -> Layer | None:
    """A change event: of a table of messages, or of an outbox whose column `payload` is one."""
    if not {"op", "source"} <= document.keys():
        return None
    row = document.get("after")
    if not isinstance(row, dict) or document["op"] not in ("c", "r"):
        raise InvalidMessage(
            "schema",
            f"the value is Debezium's change event of operation {shown(document['op'])}: only new "
            "rows ('c', 'r') are messages; set skipped.operations=u,d,t and "
            "tombstones.on.delete=false, or use its outbox event router",
        )
    is_outbox = "payload" in row and not OURS & row.keys()
    return Layer(
        name="Debezium's change event",
        inner=row["payload"] if is_outbox else row,
        turned_off="Debezium: the outbox event router, or transforms ExtractNewRecordState",
    )


_ENVELOPES: tuple[Callable[[JsonObject], Layer | None], ...] = (_connect, _debezium)
