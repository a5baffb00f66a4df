"""What `orchestrator doctor` says of the intake: whose the group is, who reads, what waits."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

from orchestrator.bus.group import foreign_members, look_at_group, owner_problem
from orchestrator.bus.options import BusOptions
from orchestrator.bus.transactions import blocked_partitions
from orchestrator.cli.finding import Finding
from orchestrator.domain.errors import OrchestratorError
from orchestrator.store import service
from orchestrator.store.database import Database

QUIET = timedelta(seconds=15)
"""After a worker got or lost partitions; until then the others may not have said what they got."""


async def intake_findings(
    database: Database, options: BusOptions, *, lease: timedelta
) -> AsyncIterator[Finding]:
    """Nothing of Kafka where it does not answer: another finding says so."""
    if found := await service.unread(database, lease=lease, quiet=QUIET):
        yield Finding(
            name="intake",
            state="failed",
            says=f"no worker reads {', '.join(found)}",
            advice=f"stop the consumers of group {options.group_id!r} that are not of this service",
        )
    if len(places := await service.places(database, lease=lease)) > 1:
        yield Finding(
            name="intake",
            state="failed",
            says="workers of this database read in more than one place: "
            + ", ".join(f"group {group!r} of cluster {cluster}" for cluster, group in places),
            advice="give all workers the same KAFKA_BOOTSTRAP_SERVERS and KAFKA_GROUP_ID",
        )
    try:
        async with asyncio.timeout(3 * options.request_timeout_seconds):
            yield await _group(database, options)
            blocked = await blocked_partitions(options)
    except (OrchestratorError, TimeoutError):
        return
    for text in blocked:
        yield Finding(name="transaction", state="warning", says=text)


async def _group(database: Database, options: BusOptions) -> Finding:
    owner = await service.identity(database)
    is_upgrade = await service.has_earlier_releases(database)
    _, view = await look_at_group(options)
    problem = owner_problem(options, view, owner)
    if problem is None:
        problem = foreign_members(options, view, owner, admits_earlier_releases=is_upgrade)
    if problem is not None:
        return Finding(name="group", state="failed", says=problem)
    return Finding(name="group", state="ok", says=f"{options.group_id!r} is of this service alone")
