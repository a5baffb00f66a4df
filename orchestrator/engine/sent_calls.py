"""Which calls of a task may have reached their agents: what is undone depends on it."""

from orchestrator.domain.ids import Seq
from orchestrator.engine.call_states import DueCall


class SentCalls:
    """A runner's. What an earlier runner decided it may have sent too."""

    def __init__(self, *, loaded_seq: Seq) -> None:
        self._loaded_seq = loaded_seq
        self._here: set[tuple[Seq, int]] = set()

    def may_have(self, due: DueCall) -> bool:
        is_from_before = due.step <= self._loaded_seq and not due.is_unsent
        return due.key in self._here or is_from_before

    def goes_out(self, due: DueCall) -> None:
        self._here.add(due.key)

    def did_not(self, due: DueCall) -> None:
        """It was announced, and then kept back."""
        self._here.discard(due.key)
