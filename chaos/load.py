"""The load: messages at a steady rate, whatever becomes of them, and a book of all that was taken.

What Kafka did not acknowledge is sent again, so a topic may hold a message more often than the book
says; what the book says is in the topic.
"""

import asyncio
import heapq
import itertools
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from chaos.kinds import BAD, Message, draw, event_message
from orchestrator.bus.options import Topics

TICK_SECONDS = 0.02
AGAIN_SECONDS = 1.0
KIND_HEADER = "chaos-kind"

Waiting = Callable[[], Awaitable[Sequence[str]]]
"""The calls that wait for a person, as `task/step/call`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A message that Kafka acknowledged."""

    message: Message
    topic: str
    partition: int
    offset: int


class Load:
    """Made for one run. `run` publishes until `stop`, then what is still due."""

    def __init__(
        self, bootstrap_servers: str, topics: Topics, *, per_second: float, dice: random.Random
    ) -> None:
        self.book: list[Sent] = []
        self.tasks = 0
        """Drawn so far, bad inputs included."""
        self._topics = topics
        self._per_second = per_second
        self._dice = dice
        self._stopping = asyncio.Event()
        self._due: list[tuple[float, int, Message]] = []
        self._order = itertools.count()
        self._under_way = 0
        self._is_running = False
        self._answered: set[str] = set()
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap_servers,
            acks="all",
            request_timeout_ms=10_000,
            metadata_max_age_ms=5_000,
            linger_ms=2,
        )

    async def open(self) -> None:
        await self._producer.start()

    async def close(self) -> None:
        await self._producer.stop()

    def stop(self) -> None:
        self._stopping.set()

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    def add(self, messages: Iterable[Message]) -> None:
        """Publishes these too, each after its own delay."""
        now = asyncio.get_running_loop().time()
        for message in messages:
            heapq.heappush(self._due, (now + message.after_seconds, next(self._order), message))

    async def run(self) -> None:
        """Returns when everything is acknowledged."""
        self._is_running = True
        try:
            await self._publish()
        finally:
            self._is_running = False

    async def _publish(self) -> None:
        loop = asyncio.get_running_loop()
        began, owed = loop.time(), 0.0
        while not self._stopping.is_set() or self._due or self._under_way:
            now = loop.time()
            if not self._stopping.is_set():
                owed += (now - began) * self._per_second
                while owed >= 1:
                    owed -= 1
                    self.tasks += 1
                    self.add(draw(self.tasks, self._dice))
            began = now
            while self._due and self._due[0][0] <= now:
                await self._send(heapq.heappop(self._due)[2])
            await asyncio.sleep(TICK_SECONDS)

    async def be_the_person(self, waiting: Waiting, *, every_seconds: float = 1.0) -> None:
        """Answers, until cancelled, what only a person can know: whether a call took effect."""
        while True:
            for key in await waiting():
                if key not in self._answered:
                    self._answered.add(key)
                    self.add([_resolution(key)])
            if not self._is_running:
                await self.run()  # the load is over, the person is not
            await asyncio.sleep(every_seconds)

    async def _send(self, message: Message) -> None:
        topic = self._topics.tasks if message.topic == "tasks" else self._topics.events
        headers = [*message.headers, (KIND_HEADER, BAD.encode() if message.is_bad else b"good")]
        self._under_way += 1
        try:
            future = await self._producer.send(
                topic, message.value, key=message.key, headers=headers
            )
        except KafkaError:
            self._again(message)
            return
        future.add_done_callback(lambda done: self._acknowledged(message, done))

    def _acknowledged(self, message: Message, done: "asyncio.Future[Any]") -> None:
        if done.cancelled() or done.exception() is not None:
            self._again(message)
            return
        self._under_way -= 1
        at = done.result()
        self.book.append(
            Sent(message=message, topic=at.topic, partition=at.partition, offset=at.offset)
        )

    def _again(self, message: Message) -> None:
        self._under_way -= 1
        at = asyncio.get_running_loop().time() + AGAIN_SECONDS
        heapq.heappush(self._due, (at, next(self._order), message))


def _resolution(key: str) -> Message:
    """A person did by hand what the agent may or may not have done."""
    task_id, step, call = key.split("/")
    fields = {
        "event_type": "agent_result",
        "step": int(step),
        "call": int(call),
        "output": {"receipt": "R-by-hand"},
    }
    return event_message(task_id, fields, event_id=f"person-{step}-{call}")
