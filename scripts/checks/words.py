"""What no linter forbids: mocks, sleeps in tests, loose SQL, HTTP clients made here and there.

A line that needs one all the same says why: `# words: reason`. A loop under `asyncio.timeout` may
sleep, because it waits for a condition with a deadline, and so may `tests/fakes`.
`orchestrator/local` may write SQL, because it runs a server of its own.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from scripts.checks.sources import Finding, Source, report

HTTP_CLIENTS = {("httpx", "AsyncClient"), ("httpx", "Client"), ("aiohttp", "ClientSession")}
HOME_OF_HTTP_CLIENTS = Path("orchestrator/agents/http.py")
SLEEPS = {("asyncio", "sleep"), ("time", "sleep")}
SQL = re.compile(
    r"\s*(SELECT\b.*\bFROM|INSERT\s+INTO|UPDATE\s.*\bSET|DELETE\s+FROM|WITH\s.*\bAS\s*\("
    r"|(CREATE|ALTER|DROP)\s+(TABLE|INDEX|VIEW|DATABASE|ROLE)|TRUNCATE)\b",
    re.DOTALL,
)


def check(source: Source) -> Iterator[Finding]:
    polling = set(_polling(source.tree))
    for node in ast.walk(source.tree):
        message = _forbidden(source.path, node, is_polling=node in polling)
        if message and not _excused(source, node):
            yield Finding(path=source.path, line=_lines(node)[0], message=message)


def _forbidden(path: Path, node: ast.AST, *, is_polling: bool) -> str | None:
    match node:
        case ast.Import() | ast.ImportFrom() if _imports_mock(node):
            return "unittest.mock: write a fake in tests/fakes"
        case ast.Call() if _is_test(path) and _sleeps(node) and not is_polling:
            return "a sleep in a test: wait for a condition with a deadline"
        case ast.Call() if _is_product(path) and _dotted(node.func) in HTTP_CLIENTS:
            return f"an HTTP client: only {HOME_OF_HTTP_CLIENTS} makes them, with their limits"
        case ast.JoinedStr() if _may_not_query(path) and SQL.match(_text(node)):
            return (
                "SQL in an f-string: a query belongs to orchestrator/store, with bound parameters"
            )
        case _:
            return None


def _imports_mock(node: ast.Import | ast.ImportFrom) -> bool:
    origin = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
    names = [f"{origin}{alias.name}." for alias in node.names]
    return any(name.startswith(("unittest.mock.", "mock.", "pytest_mock.")) for name in names)


def _sleeps(node: ast.Call) -> bool:
    """`sleep(0)` is no sleep: it lets the other tasks run."""
    if _dotted(node.func) not in SLEEPS:
        return False
    return [ast.unparse(argument) for argument in node.args] != ["0"]


def _polling(tree: ast.Module) -> Iterator[ast.AST]:
    """What runs in a loop under `asyncio.timeout`: a sleep there waits for a condition."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncWith) and any(_is_deadline(item) for item in node.items):
            for inner in ast.walk(node):
                if isinstance(inner, ast.While | ast.For | ast.AsyncFor):
                    yield from (below for below in ast.walk(inner) if isinstance(below, ast.Call))


def _is_deadline(item: ast.withitem) -> bool:
    call = item.context_expr
    return isinstance(call, ast.Call) and _dotted(call.func) == ("asyncio", "timeout")


def _dotted(function: ast.expr) -> tuple[str, str] | None:
    match function:
        case ast.Attribute(value=ast.Name(id=module), attr=name):
            return module, name
        case _:
            return None


def _text(node: ast.JoinedStr) -> str:
    parts = (part.value if isinstance(part, ast.Constant) else "x" for part in node.values)
    return "".join(str(part) for part in parts)


def _is_test(path: Path) -> bool:
    return path.parts[0] == "tests" and path.parts[1:2] != ("fakes",)


def _is_product(path: Path) -> bool:
    return path.parts[0] == "orchestrator" and path != HOME_OF_HTTP_CLIENTS


def _may_not_query(path: Path) -> bool:
    return path.parts[0] == "orchestrator" and path.parts[1] not in {"store", "local"}


def _lines(node: ast.AST) -> tuple[int, int]:
    first = getattr(node, "lineno", 1)
    return first, getattr(node, "end_lineno", first)


def _excused(source: Source, node: ast.AST) -> bool:
    first, last = _lines(node)
    return source.excused("words", first=first, last=last)


if __name__ == "__main__":
    report(check)
