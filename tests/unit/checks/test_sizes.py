"""The size check finds what is too large, and accepts a reason."""

from pathlib import Path

import pytest

from scripts.checks import sizes
from scripts.checks.sources import parse


def found(text: str) -> list[str]:
    return [str(finding) for finding in sizes.check(parse(Path("orchestrator/part.py"), text))]


def function(*, body_lines: int, parameters: str = "", reason: str = "") -> str:
    return f"def run({parameters}):{reason}\n" + "    pass\n" * body_lines


def test_a_file_of_400_lines_passes_and_one_more_is_found() -> None:
    assert found("x = 1\n" * 400) == []
    assert found("x = 1\n" * 401) == [
        "orchestrator/part.py:1: 401 lines, 400 allowed: it is two files"
    ]


def test_a_function_of_50_lines_passes_and_one_more_is_found() -> None:
    assert found(function(body_lines=49)) == []
    assert found(function(body_lines=50)) == ["orchestrator/part.py:1: run: 51 lines, 50 allowed"]
    assert found("async " + function(body_lines=50)) != []


@pytest.mark.parametrize(
    "parameters",
    ["task, *, a, b, c, d, e, f", "self, task, *, a, b, c, d, e, f", "*, a, b, c, d, e, f"],
)
def test_six_parameters_after_the_subject_pass(parameters: str) -> None:
    assert found(function(body_lines=1, parameters=parameters)) == []


def test_a_seventh_parameter_is_found() -> None:
    text = function(body_lines=1, parameters="task, *, a, b, c, d, e, f, g")
    assert found(text) == ["orchestrator/part.py:1: run: 7 parameters after the subject, 6 allowed"]


def test_a_reason_on_the_def_line_excuses_a_function_and_an_empty_one_does_not() -> None:
    assert found(function(body_lines=60, reason="  # sizes: one table, read as a whole")) == []
    assert found(function(body_lines=60, reason="  # sizes:")) != []
