"""`orchestrator dead-letters` on a topic with letters of several kinds."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from orchestrator.bus.options import BusOptions
from orchestrator.bus.producer import Publisher
from orchestrator.bus.topics import ensure_topics
from orchestrator.cli.session import user
from orchestrator.domain.decision import Fail
from orchestrator.domain.errors import ModelFailed
from orchestrator.store.database import Database
from orchestrator.store.notices import CHANNEL, Notice
from orchestrator.store.outbox import Letter, next_rows
from tests.fakes.bus import bus_options, until
from tests.fakes.scripted_caller import ScriptedCaller
from tests.fakes.scripted_planner import ScriptedPlanner
from tests.fakes.workers import Feed, reaches, running_worker
from tests.fixtures.servers import KafkaServer
from tests.integration.bus.rows import read_topic
from tests.integration.cli.command import called, told

TASK = b'{"task_description": "x", "amount": 1}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Where the command is called."""

    options: BusOptions
    environ: dict[str, str]

    async def letter(
        self,
        id_: str,
        *,
        value: bytes = TASK,
        key: bytes = b"k",
        headers: Mapping[str, str] | None = None,
        **more: str,
    ) -> None:
        """A letter as the service writes it."""
        given = {"reason": "schema", "original.topic": self.options.topics.tasks, **more}
        given |= headers or {}
        named = [(f"dlq.{name}", value.encode()) for name, value in given.items()]
        async with Publisher(self.options) as publisher:
            topic = self.options.topics.dead_letters
            await publisher.publish(
                topic, key=key, value=value, headers=[("dlq.id", id_.encode()), *named]
            )

    async def listed(self, *arguments: str) -> list[str]:
        found = await told(self.environ, "dead-letters", "list", *arguments)
        return [letter["id"] for letter in found]

    async def sent(self) -> list[bytes | None]:
        return [r.value for r in await read_topic(self.options, self.options.topics.tasks)]


@pytest_asyncio.fixture(loop_scope="session")
async def desk(kafka: KafkaServer, topic_prefix: str, database_url: str) -> Desk:
    options = bus_options(kafka.bootstrap_servers, topic_prefix)
    await ensure_topics(options)
    topics = options.topics
    environ = {
        "DATABASE_URL": database_url,
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "ORCHESTRATOR_TOPIC_TASKS": topics.tasks,
        "ORCHESTRATOR_TOPIC_EVENTS": topics.events,
        "ORCHESTRATOR_TOPIC_UPDATES": topics.task_updates,
        "ORCHESTRATOR_TOPIC_DEAD_LETTERS": topics.dead_letters,
    }
    return Desk(options=options, environ=environ)


async def test_letters_are_listed_by_what_they_say(desk: Desk) -> None:
    await desk.letter("a1", task_id="t1")
    await desk.letter("a2", reason="invalid_json", value=b"{half")
    assert await desk.listed() == ["a1", "a2"]
    assert await desk.listed("--reason", "invalid_json") == ["a2"]
    assert await desk.listed("--task", "t1", "--since", "1h") == ["a1"]
    assert await desk.listed("--contains", "HALF") == ["a2"]
    assert await desk.listed("--until", "2h") == []


async def test_a_letter_is_shown_decoded_and_byte_for_byte(desk: Desk) -> None:
    await desk.letter("a1")
    shown = await called(desk.environ, "dead-letters", "show", "a1")
    assert '"amount": 1' in shown.stdout
    assert f"value, {len(TASK)} bytes" in shown.stdout
    raw = await called(desk.environ, "dead-letters", "show", "a1", "--raw")
    assert raw.stdout.encode() == TASK


async def test_a_letter_is_shown_with_what_a_parser_would_change_and_any_key(desk: Desk) -> None:
    value = b'{"id": 18446744073709551617, "amount": 1, "amount": 1.10}'
    await desk.letter("a1", value=value, key=b"k\xff")
    shown = (await called(desk.environ, "dead-letters", "show", "a1")).stdout
    lines = [line.strip() for line in shown.splitlines()]
    assert lines[-5:] == ["{", '"id": 18446744073709551617,', '"amount": 1,', '"amount": 1.10', "}"]
    letter = await told(desk.environ, "dead-letters", "show", "a1")
    assert (letter["key"], letter["key_base64"]) == ("k\\xff", base64.b64encode(b"k\xff").decode())


async def test_those_that_match_are_sent_again_after_a_look(desk: Desk) -> None:
    await desk.letter("a1")
    await desk.letter("a2", reason="gap")
    await desk.letter("a3", replays="3")
    arguments = ("dead-letters", "replay", "--all", "--topic", desk.options.topics.tasks)
    assert await told(desk.environ, *arguments, "--dry-run") == {"would_send": ["a1"]}
    assert await desk.sent() == []
    assert await told(desk.environ, *arguments, "--rate", "100") == {"sent": ["a1"], "left": 2}
    assert await desk.sent() == [TASK]


async def test_a_letter_cannot_send_its_message_to_a_topic_that_is_not_ours(desk: Desk) -> None:
    other = desk.options.topics.task_updates
    await desk.letter("a1", headers={"original.topic": other})
    await desk.letter("a2", headers={"original.header.DLQ.replay_of": "z9"})
    done = await called(desk.environ, "dead-letters", "replay", "a1", "--force")
    assert done.returncode == 1
    assert f"dead letter a1 names topic {other!r} as its origin" in done.stderr
    again = ("dead-letters", "replay", "--all", "--force")
    assert await told(desk.environ, *again) == {"sent": ["a2"], "left": 1}
    assert await read_topic(desk.options, other) == []
    (sent,) = await read_topic(desk.options, desk.options.topics.tasks)
    assert next(v for n, v in sent.headers if n.lower() == "dlq.replay_of") == b"a2"


async def test_a_mended_value_is_sent_instead(desk: Desk, tmp_path: Path) -> None:
    mended = tmp_path / "mended.json"
    mended.write_text('{"task_description": "x"}')
    await desk.letter("a1")
    await told(desk.environ, "dead-letters", "replay", "a1", "--value", f"@{mended}")
    assert await desk.sent() == [b'{"task_description": "x"}']


async def test_the_fourth_time_is_refused(desk: Desk) -> None:
    await desk.letter("a1", replays="3")
    done = await called(desk.environ, "dead-letters", "replay", "a1")
    assert done.returncode == 1
    assert "sent again 3 times already" in done.stderr
    assert await told(desk.environ, "dead-letters", "replay", "a1", "--force") == {
        "sent": ["a1"],
        "left": 0,
    }


async def test_a_replay_that_went_well_is_counted_too(desk: Desk) -> None:
    await desk.letter("a1")
    for _ in range(3):
        await told(desk.environ, "dead-letters", "replay", "a1", "a1")
    done = await called(desk.environ, "dead-letters", "replay", "a1")
    assert (done.returncode, await desk.sent()) == (1, [TASK] * 3)
    assert "sent again 3 times already" in done.stderr
    assert (await told(desk.environ, "dead-letters", "show", "a1"))["replays"] == 3


async def test_of_letters_that_came_of_one_another_the_latest_is_sent(desk: Desk) -> None:
    await desk.letter("a1")
    await desk.letter("a2", replay_of="a1", replays="1")
    await desk.letter("a3", replay_of="a1", replays="2")
    again = ("dead-letters", "replay")
    assert await told(desk.environ, *again, "--all", "--dry-run") == {"would_send": ["a3"]}
    assert (await told(desk.environ, *again, "a3", "a1"))["sent"] == ["a3"]
    listed = await told(desk.environ, "dead-letters", "list")
    assert [letter["replays"] for letter in listed] == [3, 3, 3]
    assert (await told(desk.environ, *again, "--all"))["sent"] == []


async def test_a_reason_that_there_is_not_is_told_from_one_without_letters(desk: Desk) -> None:
    for arguments in (("list",), ("replay", "--all")):
        done = await called(desk.environ, "dead-letters", *arguments, "--reason", "bogus")
        assert done.returncode == 2
        assert "'bogus' is no reason; known are" in done.stderr
    done = await called(desk.environ, "dead-letters", "replay", "--all", "--reason", "gap")
    assert (done.returncode, done.stderr) == (0, "no dead letters to send again\n")


async def test_it_says_which_setting_is_wrong_where_kafka_is_not() -> None:
    environ = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    for arguments in (("list",), ("replay", "a1")):
        done = await called(environ, "dead-letters", *arguments)
        assert done.returncode == 1
        assert "no broker of KAFKA_BOOTSTRAP_SERVERS lets us in" in done.stderr


async def test_letters_are_seen_without_postgresql(desk: Desk) -> None:
    await desk.letter("a1", replays="2")
    environ = {n: v for n, v in desk.environ.items() if n != "DATABASE_URL"}
    done = await called(environ, "dead-letters", "list")
    assert done.returncode == 0
    assert "a1" in done.stdout
    assert "there may be more replays than shown" in done.stderr


@pytest.mark.parametrize(
    ("failures", "reason"),
    [
        ([ModelFailed("503", retryable=True)] * 3, "attempts_spent"),
        ([ModelFailed("401: wrong key", retryable=False)], "model"),
    ],
    ids=["tries are spent", "refused"],
)
async def test_a_task_whose_model_failed_for_good_goes_back_to_work_from_its_letter(
    desk: Desk, database: Database, failures: Sequence[ModelFailed], reason: str
) -> None:
    letter = await letter_of_a_failed_task(database, *failures)
    headers = dict(letter.headers)
    assert (headers["dlq.reason"], headers["dlq.replays"]) == (reason, "0")
    await desk.letter("a1", reason=reason, task_id=headers["dlq.task_id"])
    assert (await told(desk.environ, "dead-letters", "replay", "a1"))["sent"] == ["a1"]
    await reaches(database, "t1", "ready")
    last = (await told(desk.environ, "tasks", "history", "t1"))["steps"][-1]
    assert (last["who"], last["why"]) == (user(), "dead letter a1")
    (listed,) = await told(desk.environ, "dead-letters", "list")
    assert listed["replays"] == 1
    for arguments in ((), ("--dry-run",)):
        done = await called(desk.environ, "dead-letters", "replay", "a1", *arguments)
        assert done.returncode == 1
        assert "'t1' is ready; only a failed" in done.stderr
    assert await desk.sent() == [], "the task is stored: publishing it again would change nothing"


async def test_tasks_go_back_to_work_at_the_pace_asked_for_and_workers_hear_of_each(
    desk: Desk, database: Database
) -> None:
    no = Fail(reason="no")
    planner = ScriptedPlanner(by_task={"t1": (no,) * 3, "t2": (no,) * 3})
    async with running_worker(database, planner=planner, caller=ScriptedCaller()) as worker:
        feed = Feed(database)
        for task_id in ("t1", "t2"):
            await feed.task(task_id, to=worker)
            await reaches(database, task_id, "failed")
            await desk.letter(task_id, reason="model", task_id=task_id)
    heard: list[object] = []
    async with database.listener() as connection:
        await connection.add_listener(CHANNEL, lambda *notice: heard.append(notice[-1]))
        again = ("dead-letters", "replay", "--all", "--rate", "2")
        assert (await told(desk.environ, *again))["sent"] == ["t1", "t2"]
        await until(lambda: heard.count(Notice.RUNNABLE) == 2)
    first, second = await database.fetch("SELECT at FROM steps WHERE kind = 'retried' ORDER BY at")
    # Half a second after the command began, which is a little before it sent the first.
    assert second["at"] - first["at"] > timedelta(seconds=0.25)


async def letter_of_a_failed_task(database: Database, *failures: ModelFailed) -> Letter:
    planner = ScriptedPlanner(*failures)
    async with running_worker(database, planner=planner, caller=ScriptedCaller()) as worker:
        await Feed(database).task("t1", to=worker)
        await reaches(database, "t1", "failed")
    (letter,) = [row for row in await next_rows(database, 100) if isinstance(row, Letter)]
    return letter
