"""The Python files that the house rules are about, and how a finding is written and excused."""

import ast
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("orchestrator", "migrations", "demo", "bench", "chaos", "scripts", "tests")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    path: Path
    """Relative to the project's root."""
    lines: tuple[str, ...]
    tree: ast.Module

    def excused(self, word: str, *, first: int, last: int) -> bool:
        """Whether one of these lines (counted from 1) ends in `# word: reason`."""
        marked = (line.partition(f"# {word}:")[2] for line in self.lines[first - 1 : last])
        return any(reason.strip() for reason in marked)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Finding:
    path: Path
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


def parse(path: Path, text: str) -> Source:
    return Source(path=path, lines=tuple(text.splitlines()), tree=ast.parse(text, str(path)))


def sources(root: Path) -> Iterator[Source]:
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            yield parse(path.relative_to(root), path.read_text(encoding="utf-8"))


def report(check: Callable[[Source], Iterable[Finding]]) -> None:
    """Prints what `check` finds in the project; exits with 1 if that is anything."""
    files = list(sources(ROOT))
    findings = sorted(finding for source in files for finding in check(source))
    for finding in findings:
        print(finding)
    if not findings:
        print(f"{len(files)} files checked")
    sys.exit(1 if findings or not files else 0)
