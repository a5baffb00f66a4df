"""Files of at most 400 lines, functions of at most 50 with at most 6 parameters after the subject.

A function that reads better above a limit says why on its `def` line: `# sizes: reason`.
A file has no such way out.
"""

import ast
from collections.abc import Iterator

from scripts.checks.sources import Finding, Source, report

FILE_LINES = 400
FUNCTION_LINES = 50
PARAMETERS = 6


def check(source: Source) -> Iterator[Finding]:
    if len(source.lines) > FILE_LINES:
        message = f"{len(source.lines)} lines, {FILE_LINES} allowed: it is two files"
        yield Finding(path=source.path, line=1, message=message)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not _excused(source, node):
            yield from _function(source, node)


def _function(source: Source, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[Finding]:
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if lines > FUNCTION_LINES:
        message = f"{node.name}: {lines} lines, {FUNCTION_LINES} allowed"
        yield Finding(path=source.path, line=node.lineno, message=message)
    parameters = _parameters(node.args)
    if parameters > PARAMETERS:
        message = f"{node.name}: {parameters} parameters after the subject, {PARAMETERS} allowed"
        yield Finding(path=source.path, line=node.lineno, message=message)


def _parameters(arguments: ast.arguments) -> int:
    """How many there are beside `self` or `cls` and the subject, the first positional one."""
    positional = [argument.arg for argument in arguments.posonlyargs + arguments.args]
    if positional and positional[0] in {"self", "cls"}:
        positional = positional[1:]
    return len(positional[1:]) + len(arguments.kwonlyargs)


def _excused(source: Source, node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return source.excused("sizes", first=node.lineno, last=node.body[0].lineno - 1)


if __name__ == "__main__":
    report(check)
