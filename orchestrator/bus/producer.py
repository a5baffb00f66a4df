"""The idempotent producer's life: made when it is needed, replaced after any failure.

A producer that failed once may have a hole in its sequence numbers, and aiokafka does not close it:
every later message of that partition would be refused. And it never gives up by itself: whoever
sends has to say when it is enough.
"""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka

from orchestrator.bus.connection import check, client_arguments, kafka_errors
from orchestrator.bus.options import BusOptions
from orchestrator.domain.errors import KafkaUnavailable

START_SECONDS = 10.0

RawHeaders = Sequence[tuple[str, bytes | None]]


class ProducerLife:
    """One producer at a time."""

    def __init__(self, options: BusOptions, *, is_idempotent: bool = True) -> None:
        self._options = options
        self._is_idempotent = is_idempotent
        self._producer: AIOKafkaProducer | None = None

    @property
    def is_open(self) -> bool:
        return self._producer is not None

    async def current(self) -> AIOKafkaProducer:
        """The producer, started.

        Raises:
            KafkaUnavailable: nobody answers.
            InvalidSettings: somebody does, and refuses.
        """
        if self._producer is None:
            self._producer = await self._start()
        return self._producer

    async def replace(self) -> None:
        """Gives up what is not acknowledged; the next `current` makes another producer."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await _give_up(producer)

    close = replace

    async def _start(self) -> AIOKafkaProducer:
        milliseconds = int(self._options.publish_timeout_seconds * 1000)
        producer = AIOKafkaProducer(
            **client_arguments(self._options) | {"request_timeout_ms": milliseconds},
            enable_idempotence=self._is_idempotent,
            acks="all",
            # A relay's batch of a partition is one batch of records: whole, or not at all.
            max_batch_size=self._options.max_publish_bytes,
            max_request_size=self._options.max_publish_bytes,
        )
        try:
            with kafka_errors("start a producer"):
                async with asyncio.timeout(START_SECONDS):
                    await producer.start()
                    # Its sender begins; stopped before that, it would end who stops it.
                    await asyncio.sleep(0)
        except KafkaUnavailable:
            await producer.stop()
            await check(self._options)  # says why, where a broker said so
            raise
        except BaseException:
            await producer.stop()
            raise
        return producer


async def _give_up(producer: AIOKafkaProducer) -> None:
    """Stops it without waiting for what is not acknowledged.

    `stop` alone would: an idempotent producer tries for ever.
    """
    sender, accumulator = producer._sender, producer._message_accumulator  # noqa: SLF001
    await sender.close()
    accumulator.fail_all(kafka.KafkaTimeoutError("given up"))
    await producer.stop()


class Publisher:
    """Publishes single messages and waits for each: for commands and the API."""

    def __init__(self, options: BusOptions) -> None:
        self.topics = options.topics
        self._life = ProducerLife(options)
        self._patience = options.publish_timeout_seconds

    async def __aenter__(self) -> Self:
        await self._life.current()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._life.close()

    async def publish(
        self, topic: str, *, key: bytes | None, value: bytes | None, headers: RawHeaders = ()
    ) -> tuple[int, int]:
        """Partition and offset of the message, which every in-sync broker has.

        Raises:
            KafkaUnavailable: whether it was taken is unknown.
            InvalidSettings: it is refused (permissions).
        """
        producer = await self._life.current()
        try:
            with kafka_errors(f"publish to topic {topic!r}"):
                async with asyncio.timeout(self._patience):
                    sent = await producer.send_and_wait(
                        topic, value=value, key=key, headers=list(headers)
                    )
        except KafkaUnavailable as error:
            if not isinstance(error.__cause__, kafka.MessageSizeTooLargeError):
                await self._life.replace()
            raise
        return sent.partition, sent.offset
