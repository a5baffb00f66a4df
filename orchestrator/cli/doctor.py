"""`orchestrator doctor`: whether everything is there that a worker needs, and what to do if not."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.text import Text

from orchestrator.agents.targets import agent_target, model_target
from orchestrator.bus.options import BusOptions
from orchestrator.bus.topic_facts import look_at_topics
from orchestrator.bus.topics import look_at_cluster, not_allowed
from orchestrator.cli.doctor_agents import agent_findings, declared
from orchestrator.cli.doctor_intake import intake_findings
from orchestrator.cli.doctor_model import model_finding
from orchestrator.cli.doctor_topics import topic_findings
from orchestrator.cli.finding import Finding, skipped
from orchestrator.cli.output import AsJson, console, print_json
from orchestrator.cli.session import dev_addresses, run
from orchestrator.cli.target_view import pause_text
from orchestrator.domain.agent import Agent
from orchestrator.domain.errors import (
    InvalidSettings,
    NotAllowed,
    OrchestratorError,
    SchemaForeign,
    SchemaMismatch,
)
from orchestrator.settings import Examined, examine_settings
from orchestrator.store import duplicates, outbox, targets, workers
from orchestrator.store.database import Database
from orchestrator.store.pooler import check_sessions
from orchestrator.store.revision import check_revision, head
from orchestrator.store.server import OLDEST_VERSION, ServerFacts, server_facts
from orchestrator.telemetry.log_lines import printable
from orchestrator.telemetry.logs import LogOptions, configure_logs

app = typer.Typer(add_completion=False, rich_markup_mode=None)

MAX_SKEW_SECONDS = 5.0

STYLES = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": "dim"}


Ask = Annotated[
    bool, typer.Option("--ask", help="Send the model two requests with tools; this spends tokens.")
]


@app.command()
def doctor(*, ask: Ask = False, as_json: AsJson = False) -> None:
    """Look at settings, Kafka, PostgreSQL, model and agents; exit 1 if one of them fails."""
    configure_logs(LogOptions(level="error"))
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # each finding says it, once
    findings: list[Finding] = []

    async def look() -> None:
        async for finding in examine({**dev_addresses(), **os.environ}, may_ask=ask):
            findings.append(finding)
            if not as_json:
                _show(finding)

    run(look())
    if as_json:
        print_json([asdict(finding) for finding in findings])
    if any(finding.state == "failed" for finding in findings):
        raise typer.Exit(1)


def _show(finding: Finding) -> None:
    out = console()
    line = Text(f"{finding.state:8}", style=STYLES[finding.state])
    out.print(line + Text(f" {finding.name:11} {printable(finding.says)}", style="default"))
    if finding.advice is not None:
        out.print(Text(f"{'':20} → {finding.advice}"))


async def examine(environ: Mapping[str, str], *, may_ask: bool) -> AsyncIterator[Finding]:
    """Everything, each as soon as it is known; what one fault makes impossible is skipped."""
    try:
        found = examine_settings(environ)
    except InvalidSettings as error:
        yield _wrong_setting(str(error))
        for name in ("Kafka", "PostgreSQL", "model"):
            yield skipped(name)
        return
    for problem in found.problems:
        yield _wrong_setting(problem)
    if not found.problems:
        yield Finding(name="settings", state="ok", says="every variable can be used")
    async for finding in _parts(found, may_ask=may_ask):
        yield finding


def _wrong_setting(problem: str) -> Finding:
    advice = "set it in the environment or in .env; .env.example lists them all"
    return Finding(name="settings", state="failed", says=problem, advice=advice)


async def _parts(found: Examined, *, may_ask: bool) -> AsyncIterator[Finding]:
    """Each by itself: one wrong variable must not hide what can be said of the rest."""
    if "kafka" in found.usable:
        async for finding in _kafka(found.settings.bus):
            yield finding
    else:
        yield skipped("Kafka")
    if "database" in found.usable:
        async for finding in _postgres(found):
            yield finding
    else:
        yield skipped("PostgreSQL")
    if "model" in found.usable:
        yield await model_finding(found.settings, may_ask=may_ask)
    else:
        yield skipped("model")


async def _kafka(options: BusOptions) -> AsyncIterator[Finding]:
    try:
        async with asyncio.timeout(3 * options.request_timeout_seconds):
            cluster = await look_at_cluster(options)
            facts = await look_at_topics(options)
    except (OrchestratorError, TimeoutError) as error:
        yield Finding(
            name="Kafka",
            state="failed",
            says=str(error) or f"{options.bootstrap_servers} did not answer",
            advice="KAFKA_BOOTSTRAP_SERVERS, KAFKA_SECURITY_PROTOCOL and KAFKA_SASL_… say how",
        )
        return
    says = f"{options.bootstrap_servers}: cluster {cluster.cluster_id}, brokers: {cluster.brokers}"
    yield Finding(name="Kafka", state="ok", says=says)
    if cluster.hidden:
        yield Finding(name="topics", state="failed", says=not_allowed(options, cluster.hidden))
        return
    missing = [name for name in options.topics.all if name not in cluster.topics]
    if missing:
        yield Finding(
            name="topics",
            state="failed",
            says=f"missing: {', '.join(missing)}",
            advice="`orchestrator topics create`",
        )
        return
    counts = ", ".join(f"{name} ({cluster.topics[name]})" for name in options.topics.all)
    yield Finding(name="topics", state="ok", says=f"{counts}; partitions in brackets")
    for finding in topic_findings(facts, options):
        yield finding


async def _postgres(found: Examined) -> AsyncIterator[Finding]:
    settings = found.settings
    options = replace(settings.database, application_name="orchestrator-doctor", pool_size=1)
    database = Database(options)
    try:
        await check_sessions(options)
        await database.open()
    except OrchestratorError as error:
        yield _unwell("PostgreSQL", error, "DATABASE_URL says where it is")
        return
    try:
        before = datetime.now(UTC)
        facts = await server_facts(database)
        middle = before + (datetime.now(UTC) - before) / 2
        yield _server(facts)
        yield clock_finding((facts.now - middle).total_seconds())
        async for finding in _contents(database, found):
            yield finding
    except OrchestratorError as error:
        yield _unwell("PostgreSQL", error, "look at the server's log")
    finally:
        await database.close()


def _unwell(name: str, error: OrchestratorError, advice: str) -> Finding:
    return Finding(name=name, state="failed", says=str(error), advice=advice)


def _server(facts: ServerFacts) -> Finding:
    says = f"version {facts.version}"
    if facts.is_read_only:
        advice = (
            "DATABASE_URL must name the primary, and default_transaction_read_only must be off "
            "for this role and database"
        )
        return Finding(name="PostgreSQL", state="failed", says=f"{says}, read-only", advice=advice)
    if facts.major < OLDEST_VERSION:
        advice = f"upgrade it to {OLDEST_VERSION} or later"
        return Finding(name="PostgreSQL", state="failed", says=says, advice=advice)
    return Finding(name="PostgreSQL", state="ok", says=f"{says}, takes writes")


async def _contents(database: Database, found: Examined) -> AsyncIterator[Finding]:
    settings = found.settings
    try:
        revision = await check_revision(settings.database.url)
    except (SchemaForeign, NotAllowed) as error:
        yield _unwell("schema", error, "nothing was changed there")
        return
    except SchemaMismatch as error:
        yield _unwell("schema", error, "`orchestrator migrate`")
        return
    yield _schema(revision)
    living = await workers.count_living(database, lease=settings.engine.lease)
    if living:
        yield Finding(name="workers", state="ok", says=f"running: {living}")
    else:
        yield Finding(
            name="workers", state="warning", says="none runs", advice="`orchestrator worker`"
        )
    for other in await duplicates.lately(database, within=timedelta(days=1)):
        yield duplicates_finding(other)
    for finding in await _refused(database):
        yield finding
    if "kafka" in found.usable:
        async for finding in intake_findings(database, settings.bus, lease=settings.engine.lease):
            yield finding
    agents = await declared(database, settings)
    async for finding in agent_findings(agents, environ=settings.environ):
        yield finding
    for finding in await _pauses(database, agents.agents, settings.llm_model):
        yield finding


def _schema(revision: str) -> Finding:
    if revision == head():
        return Finding(name="schema", state="ok", says=f"fits this release (revision {revision})")
    says = f"revision {revision}, of a later release; this one needs {head()}, and works on it"
    return Finding(name="schema", state="warning", says=says, advice="use the later release")


async def _refused(database: Database) -> list[Finding]:
    """Messages that Kafka did not take, and that are kept until they are sent again."""
    return [
        Finding(
            name="outbox",
            state="warning",
            says=f"topic {r.topic!r} refused {r.rows} messages, which are set aside: {r.reason}",
            advice="correct the topic, then run `orchestrator outbox retry`",
        )
        for r in await outbox.refused(database)
    ]


async def _pauses(database: Database, agents: Sequence[Agent], model: str) -> list[Finding]:
    """What an operator put on hold: all is well then, and its tasks stand still all the same."""
    commands = {model_target(model): (f"model {model}", f"models resume {model}")}
    for agent in agents:
        whose = "" if agent.tenant == "default" else f" --tenant {agent.tenant}"
        target = agent_target(agent.tenant, agent.id)
        commands[target] = f"agent {agent.id}", f"agents resume {agent.id}{whose}"
    return [
        Finding(
            name="pause",
            state="warning",
            says=f"{commands[pause.target][0]} is {pause_text(pause)}",
            advice=f"its tasks wait; `orchestrator {commands[pause.target][1]}`",
        )
        for pause in await targets.pauses(database)
        if pause.target in commands
    ]


def duplicates_finding(found: duplicates.OtherContents) -> Finding:
    return Finding(
        name="duplicates",
        state="warning",
        says=(
            f"on {found.topic} {found.number} messages with a known id and other content were "
            f"dropped, the last one at {found.at:%Y-%m-%d %H:%M} UTC: {found.source} with "
            f"{found.name}; {found.kept} counts"
        ),
        advice="give each message an id of its own: of one id the first message counts",
    )


def clock_finding(skew: float) -> Finding:
    """`skew`: seconds by which PostgreSQL's clock is ahead of this machine's."""
    says = f"PostgreSQL's is {abs(skew):.1f} s {'ahead' if skew > 0 else 'behind'}"
    if abs(skew) <= MAX_SKEW_SECONDS:
        return Finding(name="clock", state="ok", says=says)
    advice = "the service goes by PostgreSQL's clock, logs by this machine's: synchronise both"
    return Finding(name="clock", state="warning", says=says, advice=advice)
