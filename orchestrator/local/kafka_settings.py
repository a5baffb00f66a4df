"""The settings of a one-node Kafka that starts fast, stays small and keeps what it acknowledged."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

from orchestrator.local.ports import LOOPBACK

CLIENT, INTERNAL, CONTROLLER, PROXIED = "CLIENT", "INTERNAL", "CONTROLLER", "PROXIED"

JVM_OPTIONS = (
    "-Xmx384m",
    "-XX:+UseSerialGC",
    # Start-up is what costs here, not the last third of throughput.
    "-XX:TieredStopAtLevel=1",
    "-Djava.awt.headless=true",
)

LOG4J = """\
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %c{1}: %m%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
"""

_MEBI = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """One port each for clients, for the broker's own connections, and for the controller."""

    client: int
    internal: int
    controller: int
    proxied: int | None = None
    """For clients that come through a proxy, which listens at `proxy`."""
    proxy: int | None = None


def server_properties(
    listeners: Listeners, *, log_dir: PurePath, extra: Mapping[str, str]
) -> dict[str, str]:
    """`extra` wins; TLS or SASL for clients is set there, the other two listeners stay plain."""
    return {
        **_node(listeners),
        **_small_and_fast(),
        "log.dirs": str(log_dir),
        "auto.create.topics.enable": "false",
        **dict(extra),
    }


def as_file(properties: Mapping[str, str]) -> str:
    """Java's properties format: a backslash escapes itself and the end of a line."""
    lines = (
        f"{name}={value.replace(chr(92), chr(92) * 2).replace(chr(10), chr(92) + chr(10))}"
        for name, value in properties.items()
    )
    return "\n".join(lines) + "\n"


def _node(listeners: Listeners) -> dict[str, str]:
    ports = {
        CLIENT: listeners.client,
        INTERNAL: listeners.internal,
        CONTROLLER: listeners.controller,
    }
    if listeners.proxied is not None:
        ports[PROXIED] = listeners.proxied
    addresses = {name: f"{name}://{LOOPBACK}:{port}" for name, port in ports.items()}
    advertised = [addresses[CLIENT], addresses[INTERNAL]]
    if listeners.proxy is not None:
        advertised.append(f"{PROXIED}://{LOOPBACK}:{listeners.proxy}")
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        # Named in the settings, not in the data, so that a port may change between runs.
        "controller.quorum.voters": f"1@{LOOPBACK}:{listeners.controller}",
        "listeners": ",".join(addresses.values()),
        "advertised.listeners": ",".join(advertised),
        "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in ports),
        "controller.listener.names": CONTROLLER,
        "inter.broker.listener.name": INTERNAL,
    }


def _small_and_fast() -> dict[str, str]:
    one_node = {
        f"{topic}.{setting}": "1"
        for topic in ("transaction.state.log", "share.coordinator.state.topic")
        for setting in ("replication.factor", "min.isr")
    }
    return {
        **one_node,
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.num.partitions": "2",
        "share.coordinator.state.topic.num.partitions": "1",
        # After kill -9 the old registration has to expire before the node may serve: 9 s else.
        "broker.session.timeout.ms": "1000",
        "broker.heartbeat.interval.ms": "250",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        "message.max.bytes": str(8 * _MEBI),
        "log.segment.bytes": str(16 * _MEBI),
        "log.index.size.max.bytes": str(1 * _MEBI),
        "log.cleaner.dedupe.buffer.size": str(8 * _MEBI),  # 128 MiB of heap else
        "log.cleaner.threads": "1",
        "num.network.threads": "2",
        "num.io.threads": "4",
        "background.threads": "2",
    }
