"""One tree of errors: each has a code of its own, and says whether trying again may help."""

from collections.abc import Iterator

from orchestrator.domain import errors
from orchestrator.domain.errors import (
    AgentFailed,
    InvalidMessage,
    ModelFailed,
    OrchestratorError,
    PeerError,
)


def tree(root: type[OrchestratorError]) -> Iterator[type[OrchestratorError]]:
    yield root
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child)


ALL = list(tree(OrchestratorError))


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [cls.code for cls in ALL]
    assert len(set(codes)) == len(codes)


def test_the_drawing_of_the_tree_names_every_error() -> None:
    drawing = errors.__doc__ or ""
    assert [cls.__name__ for cls in ALL if cls.__name__ not in drawing] == []


def test_only_servers_that_are_away_or_not_migrated_yet_come_back_by_themselves() -> None:
    assert {cls.__name__ for cls in ALL if cls.retryable} == {
        "StoreUnavailable",
        "KafkaUnavailable",
        "SchemaBehind",
    }


def test_a_peers_failure_says_itself_whether_and_when_it_may_be_tried_again() -> None:
    failed = ModelFailed("limited", retryable=True, retry_after_seconds=3.0)
    assert (str(failed), failed.retryable, failed.retry_after_seconds) == ("limited", True, 3.0)
    assert not PeerError("refused", retryable=False).retryable
    assert PeerError.retryable is False


def test_a_call_counts_as_sent_unless_it_surely_was_not() -> None:
    assert AgentFailed("timed out", retryable=True).was_sent
    assert not AgentFailed("no route", retryable=True, was_sent=False).was_sent


def test_an_invalid_message_has_a_reason_for_machines_and_a_text_for_people() -> None:
    error = InvalidMessage("schema", "task_description is missing")
    assert (error.reason, str(error)) == ("schema", "task_description is missing")
