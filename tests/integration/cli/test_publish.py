import json
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from orchestrator.bus.options import BusOptions
from orchestrator.bus.producer import Publisher
from tests.fixtures.servers import KafkaServer
from tests.integration.cli.command import called, told


@pytest.fixture
def environ(kafka: KafkaServer, topic_prefix: str) -> dict[str, str]:
    names = {
        f"ORCHESTRATOR_TOPIC_{name}": f"{topic_prefix}{name.lower().replace('_', '-')}"
        for name in ("TASKS", "EVENTS", "UPDATES", "DEAD_LETTERS")
    }
    servers = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers}
    return {**names, **servers, "ORCHESTRATOR_PARTITIONS": "1"}


async def messages(environ: dict[str, str], topic: str) -> list[tuple[bytes | None, bytes | None]]:
    """Keys and values of all that lies in the topic."""
    partition = TopicPartition(environ[f"ORCHESTRATOR_TOPIC_{topic}"], 0)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=environ["KAFKA_BOOTSTRAP_SERVERS"], auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        consumer.assign([partition])
        end = (await consumer.end_offsets([partition]))[partition]
        found = [await consumer.getone() for _ in range(end)]
    finally:
        await consumer.stop()
    return [(record.key, record.value) for record in found]


async def test_topics_are_created_once(environ: dict[str, str]) -> None:
    assert len((await told(environ, "topics", "create"))["created"]) == 4
    assert (await told(environ, "topics", "create"))["created"] == []


async def test_a_task_is_sent_with_all_its_fields(environ: dict[str, str]) -> None:
    options = ["--id", "order", "-r", "a", "-r", "b", "-d", "n=3", "--priority", "high"]
    sent = await told(environ, "publish", "task", "some words", *options)
    ((key, value),) = await messages(environ, "TASKS")
    assert (sent["task_id"], key) == ("order", b"order")
    assert json.loads(value or b"") == {
        "task_id": "order",
        "task_description": "some words",
        "required_fields": ["a", "b"],
        "event_data": {"n": 3},
        "priority": "high",
    }


async def test_the_id_of_a_task_is_all_that_is_printed(environ: dict[str, str]) -> None:
    done = await called(environ, "publish", "task", "some words")
    ((key, _),) = await messages(environ, "TASKS")
    assert done.stdout.encode() == (key or b"") + b"\n"
    assert done.stderr == ""


async def test_an_event_is_sent_under_its_task(environ: dict[str, str]) -> None:
    options = ["--type", "answer", "--data", '{"term": 24}', "--event-id", "e-1"]
    await told(environ, "publish", "event", "order", *options)
    ((key, value),) = await messages(environ, "EVENTS")
    assert key == b"order"
    assert json.loads(value or b"") == {
        "task_id": "order",
        "event_type": "answer",
        "event_id": "e-1",
        "event_data": {"term": 24},
    }


LINES = """
{"task_id": "one", "task_description": "a"}
nonsense
{"topic": "tasks", "key": "k", "raw": "{broken"}
{"topic": "events", "value": {"task_id": "one"}}
"""


async def test_a_file_is_sent_but_for_its_bad_lines(
    environ: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "tasks.jsonl"
    file.write_text(LINES)
    done = await called(environ, "publish", "--file", str(file))
    assert done.returncode == 1
    assert done.stdout == "one\n"  # whose task a raw value is nobody knows
    assert f"error: {file}: line 3: not JSON" in done.stderr
    assert [value for _, value in await messages(environ, "TASKS")][1] == b"{broken"
    assert len(await messages(environ, "EVENTS")) == 1


@pytest.mark.parametrize(
    ("lines", "code", "says"), [("", 0, "0 sent"), ("x\n", 1, "0 sent, 1 not")]
)
async def test_a_file_without_a_good_line_sends_nothing(
    environ: dict[str, str], lines: str, code: int, says: str
) -> None:
    done = await called(environ, "publish", "--file", "-", stdin=lines)
    assert done.returncode == code
    assert done.stderr.splitlines()[0] == says


async def test_a_call_of_an_event_is_the_one_that_answers_or_that_is_asked(
    environ: dict[str, str],
) -> None:
    common = ("publish", "event", "order", "--call", "2/1")
    for more in (["-d", "a=1"], ["--error", "no"], ["--type", "answer", "-d", "a=1"]):
        assert (await called(environ, *common, *more)).returncode == 0
    numbers = {"task_id": "order", "step": 2, "call": 1}
    result = {**numbers, "event_type": "agent_result"}
    found = [json.loads(value or b"") for _, value in await messages(environ, "EVENTS")]
    assert found == [
        {**result, "status": "success", "output": {"a": 1}},
        {**result, "status": "error", "error_message": "no"},
        {**numbers, "event_type": "answer", "event_data": {"a": 1}},
    ]


@pytest.mark.parametrize(
    "options",
    [
        ("--error", "no"),
        ("--error", "no", "--call", "2/1", "--type", "answer"),
        ("--error", "no", "--call", "2/1", "-d", "a=1"),
    ],
)
async def test_an_error_that_would_be_lost_is_refused(
    environ: dict[str, str], options: tuple[str, ...]
) -> None:
    done = await called(environ, "publish", "event", "order", *options)
    assert done.returncode == 2
    assert "--error" in done.stderr


async def test_a_file_may_come_from_stdin(environ: dict[str, str]) -> None:
    lines = "".join(f'{{"task_id": "{n}", "task_description": "a"}}\n' for n in range(1200))
    done = await called(environ, "publish", "--file", "-", "--json", stdin=lines)
    assert json.loads(done.stdout)["sent"] == 1200
    keys = [int(key or b"") for key, _ in await messages(environ, "TASKS")]
    assert keys == list(range(1200))


async def test_dead_letters_of_an_empty_topic_are_none(environ: dict[str, str]) -> None:
    await told(environ, "topics", "create")
    assert await told(environ, "dead-letters", "list") == []
    assert (await told(environ, "dead-letters", "replay", "--all"))["sent"] == []
    done = await called(environ, "dead-letters", "show", "nothing")
    assert done.returncode == 1
    assert done.stderr.startswith("error: there is no dead letter 'nothing'")


async def letter(environ: dict[str, str], number: int, *, reason: str = "invalid_json") -> None:
    """A dead letter as ingest writes it."""
    headers = [
        ("dlq.id", f"letter-{number}".encode()),
        ("dlq.reason", reason.encode()),
        ("dlq.error", b"not JSON\x1b[2J"),
        ("dlq.original.topic", environ["ORCHESTRATOR_TOPIC_TASKS"].encode()),
        ("dlq.original.partition", b"0"),
        ("dlq.original.offset", str(number).encode()),
        ("dlq.original.header.source", b"shop"),
    ]
    options = BusOptions(bootstrap_servers=environ["KAFKA_BOOTSTRAP_SERVERS"])
    async with Publisher(options) as publisher:
        topic = environ["ORCHESTRATOR_TOPIC_DEAD_LETTERS"]
        await publisher.publish(topic, key=b"k", value=b"{\xff", headers=headers)


async def test_dead_letters_are_listed_and_shown(environ: dict[str, str]) -> None:
    await told(environ, "topics", "create")
    await letter(environ, 1)
    await letter(environ, 2, reason="gap")
    (found,) = await told(environ, "dead-letters", "list", "--reason", "gap")
    assert (found["id"], found["offset"]) == ("letter-2", 2)
    shown = (await called(environ, "dead-letters", "show", "ter-1")).stdout
    assert "not JSON\\x1b[2J" in shown
    assert "{\\xff" in shown
    assert "header source" in shown


async def test_dead_letters_are_sent_again_as_they_came(
    environ: dict[str, str], database_url: str
) -> None:
    environ["DATABASE_URL"] = database_url  # replays are counted there
    await told(environ, "topics", "create")
    await letter(environ, 1)
    await letter(environ, 2, reason="gap")
    done = await told(environ, "dead-letters", "replay", "--all")
    assert done == {"sent": ["letter-1"], "left": 1}
    assert await messages(environ, "TASKS") == [(b"k", b"{\xff")]
    refused = await called(environ, "dead-letters", "replay", "letter-2")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: dead letter letter-2 (gap)")
