"""JSON as Python types."""

from pydantic import JsonValue

JsonObject = dict[str, JsonValue]

MIN_INTEGER, MAX_INTEGER = -(2**63), 2**64 - 1
"""Beyond these PostgreSQL keeps a number, and orjson does not read it back as it was, or at all."""

__all__ = ["MAX_INTEGER", "MIN_INTEGER", "JsonObject", "JsonValue"]
