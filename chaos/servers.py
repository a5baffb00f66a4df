"""Apache Kafka, PostgreSQL and the process that forks workers: a run's own, gone after it."""

import asyncio
import logging
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from chaos.arena import Servers
from chaos.fleet import running_forge
from orchestrator.local.kafka import LocalKafka
from orchestrator.local.ports import keep_ports
from orchestrator.local.postgres import LocalPostgres
from orchestrator.store.migrations import upgrade

TEMPLATE = "chaos_template"


@asynccontextmanager
async def own_servers(folder: Path) -> AsyncIterator[Servers]:
    """Data and logs are in `folder`."""
    # Of an absent broker our own clients would tell every tenth of a second.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    proxy_port = keep_ports(folder / "proxy.json", ("proxy",))["proxy"]
    kafka = LocalKafka(folder / "kafka", proxy_port=proxy_port, say=say)
    postgres = LocalPostgres(folder / "postgres")
    async with AsyncExitStack() as stack:
        stack.push_async_callback(kafka.stop)
        stack.push_async_callback(postgres.stop)
        say("Starting Apache Kafka, PostgreSQL and the process that forks workers …")
        await asyncio.gather(kafka.start(), postgres.start())
        await asyncio.to_thread(upgrade, await postgres.create_database(TEMPLATE))
        forge = await stack.enter_async_context(running_forge())
        version = await postgres.execute("SHOW server_version")
        yield Servers(
            kafka=kafka,
            postgres=postgres,
            template=TEMPLATE,
            forge=forge,
            postgres_version=version,
            kafka_detour=kafka.detour,
        )


@asynccontextmanager
async def scratch(folder: Path) -> AsyncIterator[Path]:
    """A folder that goes when all is well, and stays when an error ends what is inside."""
    folder.mkdir(parents=True)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def say(text: str) -> None:
    """Progress goes to standard error: figures are standard output's."""
    print(text, file=sys.stderr, flush=True)
