"""Each class of faults alone, for a few seconds: `make chaos` does the same at length."""

import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from chaos.arena import Servers, Size
from chaos.fault import Bar, Fault
from chaos.faults import networks
from chaos.fleet import ForgeLine
from chaos.matrix import MATRIX
from chaos.round import Outcome, run_round
from orchestrator.local.kafka import LocalKafka
from tests.fixtures.servers import KafkaServer, PostgresServer

SIZE = Size(workers=2, per_second=8.0, is_short=True)
SLACK = 4.0
"""What is measured in seconds may take so many times as long beside other tests."""


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def servers(
    kafka: KafkaServer, postgres: PostgresServer, database_template: str, forge: ForgeLine
) -> AsyncIterator[Servers]:
    # Of an absent broker the load's client tells the test's own log every tenth of a second.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    yield Servers(
        kafka=kafka,
        postgres=postgres,
        template=database_template,
        forge=forge,
        kafka_detour=kafka.detour if isinstance(kafka, LocalKafka) else None,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Of one run; what its workers said is shown where it fails."""
    folder = tmp_path / "run"
    yield folder
    for log in sorted(folder.glob("*.log")):
        print(f"--- {log.name}\n" + "\n".join(log.read_text().splitlines()[-15:]))  # noqa: T201


@pytest.mark.parametrize("fault", MATRIX, ids=lambda fault: fault.name)
async def test_nothing_is_lost_and_nothing_done_twice(
    fault: Fault, servers: Servers, folder: Path
) -> None:
    if fault is networks.KAFKA and servers.kafka_detour is None:
        pytest.skip("a Kafka that is not our own tells its clients its own address")
    outcome = await run_round(servers, [(fault, fault.times.short)], folder=folder, size=SIZE)

    assert outcome.findings == ()
    assert [bar.measure for bar in fault.bars if not _holds(bar, outcome)] == []
    assert outcome.injected == {fault.name: fault.times.short}


def _holds(bar: Bar, outcome: Outcome) -> bool:
    slack = SLACK if bar.measure.endswith(", s") else 1.0
    measured = list(outcome.measured.get(bar.measure, ()))
    return replace(bar, at_most=slack * bar.at_most).holds(measured)
