"""What is wrong with a declaration, in words: the field, what is expected, what to do."""

import difflib
from collections.abc import Mapping, Sequence

from pydantic_core import ErrorDetails

from orchestrator.domain.json import path_text

MAX_VALUE = 80

EXPECTED = {
    "id": "1 to 48 characters of a-z, 0-9 and '-', the first one not '-'",
    "name": "a text that is not empty",
    "description": "a text that says what the agent does and needs; the model chooses by it",
    "role": "a text",
    "endpoint": "an http:// or https:// URL",
    "capabilities": "a list of texts, such as [customer.create]",
    "type": "input, processor or output",
    "input_schema": "a JSON Schema object",
    "output_schema": "a JSON Schema object",
    "limits": "an object with concurrency, rate_per_second, timeout_seconds",
    "limits.concurrency": "a whole number greater than 0",
    "limits.rate_per_second": "a number greater than 0, a millionth at least",
    "limits.timeout_seconds": "a number of seconds greater than 0, 10 million at most",
    "effects": "idempotent or at_most_once",
    "status_url": "an http:// or https:// URL",
    "cancel_url": "an http:// or https:// URL",
    "compensation": "an object with agent and input",
    "compensation.agent": "the id of the agent that undoes a call",
    "compensation.input": "an object",
    "cost": "what a call costs: a number from 0",
    "secret_env": "the name of an environment variable, such as CRM_SIGNING_SECRET",
    "config": "an object",
    "tenant": "a text that is not empty",
}

# Who mistakes it for the place of the secret must not find the secret in a log.
_NEVER_SHOWN = frozenset({"secret_env", "endpoint", "status_url", "cancel_url"})


def problem_text(error: ErrorDetails, *, known: Mapping[str, Sequence[str]]) -> str:
    """One problem as `field: what is expected; what it is`. `known`: the fields of each object."""
    path = path_text(error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{path}: {_unknown_field(path, known=known)}"
    if path == "protocol":
        return f"protocol: {error['input']!r} is not supported yet; supported: http"
    expected = EXPECTED.get(path) or EXPECTED.get(path.split("[")[0])
    if error["type"] == "missing":
        return f"{path}: is missing; expected {expected or 'a value'}"
    if expected is None:
        return f"{path}: {error['msg']}"
    got = "" if path in _NEVER_SHOWN else f"; got {_shown(error['input'])}"
    return f"{path}: expected {expected}{got}"


def _unknown_field(path: str, *, known: Mapping[str, Sequence[str]]) -> str:
    parent, _, name = path.rpartition(".")
    fields = known.get(parent, ())
    close = difflib.get_close_matches(name, fields, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(fields)}"
    return f"is not a field of an agent's declaration; {hint}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}…"
