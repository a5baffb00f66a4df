"""`orchestrator doctor` on topics that will refuse messages, before one of them is refused."""

import pytest

from orchestrator.bus.options import BusOptions, Topics
from orchestrator.bus.topic_facts import TopicFacts
from orchestrator.cli.doctor_topics import topic_findings

LETTERS = Topics().dead_letters


def findings(**settings: str) -> list[tuple[str, str]]:
    named = {name.replace("_", "."): value for name, value in settings.items()}
    facts = TopicFacts(name=LETTERS, replicas=1, settings=named)
    return [(f.state, f.says) for f in topic_findings([facts], BusOptions())]


@pytest.mark.parametrize(
    ("settings", "state", "says"),
    [
        ({"cleanup_policy": "compact"}, "failed", "refuses dead letters without a key"),
        ({"cleanup_policy": "compact,delete"}, "failed", "cleanup.policy is 'compact,delete'"),
        ({"min_insync_replicas": "2"}, "warning", "min.insync.replicas is 2"),
        ({"max_message_bytes": "1000"}, "warning", "max.message.bytes is 1000, less than the"),
    ],
)
def test_a_setting_that_refuses_messages_is_told(
    settings: dict[str, str], state: str, says: str
) -> None:
    ((found, text),) = findings(**settings)
    assert found == state
    assert says in text


def test_usual_settings_are_not_told() -> None:
    settings = {"cleanup_policy": "delete", "min_insync_replicas": "1"}
    assert findings(**settings, max_message_bytes="1200000") == []


def test_a_right_that_is_missing_is_told_with_what_follows() -> None:
    denied = [
        TopicFacts(name=Topics().tasks, replicas=1, denied=("read",)),
        TopicFacts(name=LETTERS, replicas=1, denied=("write",)),
    ]
    reading, writing = topic_findings(denied, BusOptions())
    assert reading.state == writing.state == "failed"
    assert reading.says == "this user may not read topic 'tasks': nothing of it is read"
    assert "wait in PostgreSQL" in writing.says
