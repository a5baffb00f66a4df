"""CloudEvents 1.0 over Kafka, by hand: structured, binary or not at all, in; binary out."""

import base64
import binascii
from dataclasses import dataclass
from datetime import datetime

from orchestrator.bus.decoding import kind_of, shown
from orchestrator.bus.envelopes import CLOUD_EVENT, OURS, opened, read_value
from orchestrator.bus.headers import Headers, first
from orchestrator.bus.options import ValueFormat
from orchestrator.domain.errors import InvalidMessage
from orchestrator.domain.json import JsonObject

JSON_TYPE = "application/json"
EVENT_TYPE = "application/cloudevents"
BATCH_TYPE = "application/cloudevents-batch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """The data of a message, and the CloudEvents attributes where there were any."""

    data: JsonObject
    id: str | None = None
    source: str | None = None


def unwrap(
    value: bytes | None, headers: Headers, *, max_bytes: int, value_format: ValueFormat = "auto"
) -> Envelope:
    """The message in the value, whichever mode it came in.

    Raises:
        InvalidMessage: the value can't be used, or says that it is a CloudEvent and is none.
    """
    content_type = (first(headers, "content-type") or "").strip().lower()
    if content_type.startswith(BATCH_TYPE):
        raise InvalidMessage(
            "schema", f"content-type {shown(content_type)}: send one CloudEvent a message, no batch"
        )
    data = read_value(value, headers, max_bytes=max_bytes, value_format=value_format)
    if content_type.startswith(EVENT_TYPE) or (value_format == "auto" and _is_structured(data)):
        return _structured(data, max_bytes=max_bytes, value_format=value_format)
    attributes = {name: first(headers, f"ce_{name}") for name in CLOUD_EVENT}
    if any(attribute is None for attribute in attributes.values()):
        return Envelope(data=data)
    _check_version(attributes["specversion"])
    return Envelope(data=data, id=attributes["id"], source=attributes["source"])


def _is_structured(event: JsonObject) -> bool:
    """Whether it is a CloudEvent without the header that says so, as Debezium sends them."""
    return all(name in event for name in CLOUD_EVENT) and not OURS & event.keys()


def binary_headers(*, id: str, source: str, type: str, time: datetime, subject: str) -> Headers:  # noqa: A002 - CloudEvents' own words
    """The attributes as headers, for a value that is plain JSON."""
    return (
        ("ce_specversion", "1.0"),
        ("ce_id", id),
        ("ce_source", source),
        ("ce_type", type),
        ("ce_time", time.isoformat()),
        ("ce_subject", subject),
        ("content-type", JSON_TYPE),
    )


def _structured(event: JsonObject, *, max_bytes: int, value_format: ValueFormat) -> Envelope:
    for name in CLOUD_EVENT:
        attribute = event.get(name)
        if not isinstance(attribute, str) or not attribute:
            raise InvalidMessage(
                "schema",
                f"CloudEvents attribute {name!r} is {shown(attribute)}: expected a text",
            )
    _check_version(str(event["specversion"]))
    return Envelope(
        data=_data(event, max_bytes=max_bytes, value_format=value_format),
        id=str(event["id"]),
        source=str(event["source"]),
    )


def _data(event: JsonObject, *, max_bytes: int, value_format: ValueFormat) -> JsonObject:
    if "data_base64" in event:
        encoded = event["data_base64"]
        try:
            decoded = base64.b64decode(encoded if isinstance(encoded, str) else "-", validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidMessage(
                "schema", f"CloudEvents 'data_base64' is {shown(encoded)}: expected base64"
            ) from error
        return read_value(decoded, (), max_bytes=max_bytes, value_format=value_format)
    data = event.get("data")
    if value_format == "auto" and isinstance(data, str | dict):
        return opened(data, value_format=value_format)
    if not isinstance(data, dict):
        raise InvalidMessage(
            "schema",
            f"CloudEvents 'data' is {kind_of(data)}, {shown(data)}: expected an object",
        )
    return data


def _check_version(version: str | None) -> None:
    if version is None or not version.startswith("1."):
        raise InvalidMessage(
            "schema", f"CloudEvents 'specversion' is {shown(version)}: expected '1.0'"
        )
