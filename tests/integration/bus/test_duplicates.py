"""Of messages with one id the first counts; one that says something else is told, and only that."""

import json
from datetime import timedelta

import pytest

from orchestrator.bus.options import BusOptions
from orchestrator.bus.producer import Publisher
from orchestrator.store import duplicates
from orchestrator.store.database import Database
from orchestrator.telemetry import metrics
from tests.fakes.bus import CountingEngine, running_consumer, until
from tests.integration.bus.rows import count, has_tasks, one, task_value

CLOUD_EVENT = (
    ("ce_specversion", b"1.0"),
    ("ce_id", b"4711"),
    ("ce_source", b"/shop"),
    ("ce_type", b"order"),
)
TASK: dict[str, object] = {
    "task_id": "t",
    "task_description": "x",
    "metadata": {"a": 1, "b": [True]},
}
EVENT: dict[str, object] = {
    "task_id": "t",
    "event_id": "e",
    "event_type": "answer",
    "event_data": {"a": 1},
}


def told(topic: str) -> float:
    return float(metrics.OTHER_CONTENTS.labels(topic)._value.get())


async def publish(publisher: Publisher, options: BusOptions, *fields: dict[str, object]) -> None:
    """Tasks and events, each to its topic, as they come."""
    for each in fields:
        is_task = "task_description" in each
        topic = options.topics.tasks if is_task else options.topics.events
        await publisher.publish(topic, key=b"k", value=json.dumps(each).encode())


async def read_all(database: Database, options: BusOptions, messages: int) -> None:
    """Reads until so many messages are in, or dropped."""
    engine = CountingEngine()

    async def are_read() -> bool:
        dropped = sum(ingested.dropped for ingested in engine.ingested)
        return await count(database, "inbox") + dropped >= messages

    async with running_consumer(database, options, engine):
        await until(are_read)


OTHER = {
    "event data": (EVENT, {**EVENT, "event_data": {"a": 2}}),
    "true for 1": (EVENT, {**EVENT, "event_data": {"a": True}}),
    "an event type": (EVENT, {**EVENT, "event_type": "message"}),
    "a call that it answers": (EVENT, {**EVENT, "step": 2, "call": 1}),
    "a description": (TASK, {**TASK, "task_description": "y"}),
    "a priority": (TASK, {**TASK, "priority": "high"}),
    "a required field": (TASK, {**TASK, "required_fields": ["a"]}),
    "metadata": (TASK, {**TASK, "metadata": {}}),
}
SAME = {
    "an event": (EVENT, EVENT),
    "other white space": (EVENT, json.loads(json.dumps(EVENT, indent=2))),
    "another order of fields": (TASK, dict(reversed(list(TASK.items())))),
    "what is absent as null": (TASK, {**TASK, "priority": None, "event_data": {}}),
    "a default": (TASK, {**TASK, "kind": "agentic"}),
    "no id": ({**EVENT, "event_id": None}, {**EVENT, "event_id": None, "event_data": {"a": 2}}),
    "another id": (EVENT, {**EVENT, "event_id": "f", "event_data": {"a": 2}}),
    "another task": (EVENT, {**EVENT, "task_id": "u", "event_data": {"a": 2}}),
}


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "one after the other"])
@pytest.mark.parametrize(("first", "second"), OTHER.values(), ids=OTHER.keys())
async def test_other_content_under_a_known_id_is_counted_and_kept_for_doctor(
    database: Database,
    options: BusOptions,
    publisher: Publisher,
    first: dict[str, object],
    second: dict[str, object],
    together: bool,
) -> None:
    topic = options.topics.tasks if first is TASK else options.topics.events
    await publish(publisher, options, first)
    if not together:
        await read_all(database, options, 1)
    await publish(publisher, options, second)
    await read_all(database, options, 2)
    (found,) = await duplicates.lately(database, within=timedelta(hours=1))
    assert (found.topic, found.number, found.task_id) == (topic, 1, "t")
    assert found.event_id == (None if first is TASK else "e")
    assert found.source != found.kept
    assert told(topic) == 1


@pytest.mark.parametrize(("first", "second"), SAME.values(), ids=SAME.keys())
async def test_the_same_message_again_is_nothing_to_tell(
    database: Database,
    options: BusOptions,
    publisher: Publisher,
    first: dict[str, object],
    second: dict[str, object],
) -> None:
    await publish(publisher, options, first, second)
    await read_all(database, options, 2)
    assert await duplicates.lately(database, within=timedelta(hours=1)) == []


async def test_two_cloud_events_with_one_id_and_different_data_are_told_by_a_log_line(
    database: Database,
    options: BusOptions,
    publisher: Publisher,
    capsys: pytest.CaptureFixture[str],
) -> None:
    topic = options.topics.tasks
    for text in ("x", "y"):
        value = json.dumps({"task_description": text}).encode()
        await publisher.publish(topic, key=b"k", value=value, headers=CLOUD_EVENT)
    await read_all(database, options, 2)
    assert (await one(database, "SELECT description FROM tasks"))["description"] == "x"
    assert "with a known id and other content were dropped" in capsys.readouterr().out
    assert told(topic) == 1


async def test_messages_that_are_read_again_are_no_duplicates_with_other_content(
    database: Database, options: BusOptions, publisher: Publisher
) -> None:
    await publish(publisher, options, TASK, EVENT, {**EVENT, "event_id": None})
    await read_all(database, options, 3)
    await database.fetch("UPDATE kafka_positions SET next_offset = 0")
    await publisher.publish(options.topics.tasks, key=b"k", value=task_value("later"))
    async with running_consumer(database, options):
        await until(lambda: has_tasks(database, 2))
    assert await duplicates.lately(database, within=timedelta(hours=1)) == []
