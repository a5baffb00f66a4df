"""What a model may answer, before LangChain reads it."""

from types import SimpleNamespace

import pytest

from orchestrator.planners.agentic.model import _mend_arguments

GIVEN: dict[str, tuple[object, str]] = {
    "the text of an object": ('{"a": 1}', '{"a": 1}'),
    "an object": ({"a": 10**30}, '{"a": 1000000000000000000000000000000}'),
    "the text of an object as a JSON text": ('"{\\"a\\": 1}"', '{"a": 1}'),
    "nothing": (None, "{}"),
    "an empty text": (" ", "{}"),
    "null": ("null", "{}"),
    "a list": ([1], "not an object: [1]"),
    "the text of a list": ("[1]", "not an object: [1]"),
    "a number": (7, "not an object: 7"),
    "a JSON text of words": ('"ACME"', 'not an object: "ACME"'),
    "broken JSON": ('{"a": ', '{"a": '),
    "brackets without an end": ("[" * 100_000, "[" * 100_000),
}


@pytest.mark.parametrize(("given", "mended"), GIVEN.values(), ids=GIVEN)
def test_arguments_are_the_text_of_an_object_or_broken_json(given: object, mended: str) -> None:
    call = SimpleNamespace(arguments=given)
    _mend_arguments(call)
    assert call.arguments == mended
