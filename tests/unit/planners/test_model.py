"""What a model may answer, before LangChain reads it."""

from types import SimpleNamespace

from orchestrator.planners.agentic.model import _mark_broken


def arguments_of(said: str) -> str:
    call = SimpleNamespace(function=SimpleNamespace(arguments=said))
    _mark_broken(call)
    return str(call.function.arguments)


def test_brackets_without_an_end_are_broken_arguments_like_others() -> None:
    assert arguments_of("[" * 100_000) == "[" * 100_000
    assert arguments_of("[1]") == "not an object: [1]"
    assert arguments_of('{"a": 1}') == '{"a": 1}'
