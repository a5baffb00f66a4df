"""What `orchestrator doctor` found of one thing: a line, and what to do about it."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "failed", "skipped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line: what was looked at, how it is, and what to do about it."""

    name: str
    state: State
    says: str
    advice: str | None = None


def skipped(name: str) -> Finding:
    return Finding(name=name, state="skipped", says="its settings can't be used")
