"""A database and topics of the test's own."""

from collections.abc import AsyncIterator

import pytest_asyncio

from orchestrator.bus.options import BusOptions
from orchestrator.bus.producer import Publisher
from orchestrator.bus.topics import ensure_topics
from tests.fakes.bus import bus_options
from tests.fixtures.servers import KafkaServer


@pytest_asyncio.fixture(loop_scope="session")
async def options(kafka: KafkaServer, topic_prefix: str) -> BusOptions:
    options = bus_options(kafka.bootstrap_servers, topic_prefix)
    await ensure_topics(options)
    return options


@pytest_asyncio.fixture(loop_scope="session")
async def publisher(options: BusOptions) -> AsyncIterator[Publisher]:
    async with Publisher(options) as publisher:
        yield publisher
