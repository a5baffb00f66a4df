"""What the bus can be told: topics, group, sizes, time-outs, and how to log in to Kafka.

The names are Kafka's own, so that a `client.properties` translates line by line.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from orchestrator.domain.errors import InvalidSettings

PREFIX = "KAFKA_"
"""Of the variables that have Kafka's own names; ours begin with `OWN_PREFIX`."""
OWN_PREFIX = "ORCHESTRATOR_"

ValueFormat = Literal["auto", "json"]
SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]

KIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Topics:
    """Their names."""

    tasks: str = "tasks"
    events: str = "events"
    task_updates: str = "task-updates"
    dead_letters: str = "dead-letters"

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.tasks, self.events)

    @property
    def all(self) -> tuple[str, ...]:
        return (self.tasks, self.events, self.task_updates, self.dead_letters)


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """How to log in, in the words of Kafka's own clients."""

    security_protocol: SecurityProtocol = "PLAINTEXT"
    sasl_mechanism: SaslMechanism = "PLAIN"
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ssl_cafile: str | None = None
    """PEM file of the authority that signed the brokers' certificates; None: the system's."""
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_key_password: str | None = field(default=None, repr=False)
    ssl_check_hostname: bool = True

    def __post_init__(self) -> None:
        if self.uses_sasl and not (self.sasl_username and self.sasl_password):
            raise InvalidSettings(
                f"{PREFIX}SECURITY_PROTOCOL is {self.security_protocol}: set {PREFIX}SASL_USERNAME "
                f"and {PREFIX}SASL_PASSWORD as well"
            )
        if self.ssl_keyfile and not self.ssl_certfile:
            raise InvalidSettings(
                f"{PREFIX}SSL_KEYFILE is set without {PREFIX}SSL_CERTFILE, the certificate of it"
            )

    @property
    def uses_sasl(self) -> bool:
        return self.security_protocol.startswith("SASL_")

    @property
    def uses_ssl(self) -> bool:
        return self.security_protocol.endswith("SSL")


@dataclass(frozen=True, slots=True, kw_only=True)
class BusOptions:
    """Everything about Kafka, with the defaults that lose nothing."""

    bootstrap_servers: str = "localhost:9092"
    client_id: str = "orchestrator"
    group_id: str = "orchestrator"
    topics: Topics = field(default_factory=Topics)
    security: Security = field(default_factory=Security)

    create_topics: bool = True
    """Create the topics that are missing; off where topics are made by other means."""
    partitions: int = 6
    replication: int = -1
    """Of new topics; -1 is the broker's default."""
    retention: timedelta | None = None
    """Of new topics; None is the broker's default."""

    batch_messages: int = 500
    """At most so many messages are written to PostgreSQL at once."""
    batch_bytes: int = 8 * KIB * KIB
    value_format: ValueFormat = "auto"
    """Whether what producers put around a message's JSON is read, or refused by its name."""
    max_message_bytes: int = 1_000_000
    """A larger message goes to the dead letters unread."""
    max_publish_bytes: int = 1_040_000
    """What the brokers take as one batch (`max.message.bytes`); a larger message is shortened."""
    on_gap: Literal["stop", "continue"] = "stop"
    """What to do where Kafka no longer has the next message: keep still, or go on behind it."""

    expected_for: timedelta = timedelta(hours=24)
    """How long an event waits for its task's own message."""
    shared_claims: int = 5
    """A task claimed so often without a step is a suspect, which is not claimed here any more."""

    member: str | None = None
    """Whoever joins the group under the name of one that was killed has its partitions at once."""
    session_timeout_seconds: float = 10.0
    request_timeout_seconds: float = 15.0
    publish_timeout_seconds: float = 5.0
    """May outlast a lease that was held when the round began: then the next leader publishes the
    same rows too, with the same ids and in the same order. Less would give up slow brokers."""
    stalled_after_seconds: float = 60.0
    """Without progress for so long, and with messages to read, the consumer is built anew."""
    source: str = "/orchestrator"
    """`ce_source` of what is published."""

    @property
    def max_inflated_bytes(self) -> int:
        """Of a compressed batch of messages, decompressed: as much as one fetch may bring."""
        return 2 * max(self.batch_bytes, self.max_message_bytes)

    def __post_init__(self) -> None:
        if not self.bootstrap_servers.strip():
            raise InvalidSettings(f"{PREFIX}BOOTSTRAP_SERVERS is empty: expected host:port, …")
        names = self.topics.all
        if len(set(names)) < len(names):
            raise InvalidSettings(
                f"{OWN_PREFIX}TOPIC_…: two topics share a name: {', '.join(names)}"
            )
        # In the names of Kafka's metrics they are one. It creates both where one request asks for
        # them, and of two requests it refuses the second.
        if len({name.replace(".", "_") for name in names}) < len(names):
            raise InvalidSettings(
                f"{OWN_PREFIX}TOPIC_…: two topics differ only in '.' and '_', which is one name to "
                f"Kafka: {', '.join(names)}; rename one of them"
            )
        for name, value in (
            ("PARTITIONS", self.partitions),
            ("BATCH_MESSAGES", self.batch_messages),
            ("MAX_MESSAGE_BYTES", self.max_message_bytes),
        ):
            if value < 1:
                raise InvalidSettings(f"{OWN_PREFIX}{name} is {value}: expected a number from 1")
        if self.session_timeout_seconds >= self.request_timeout_seconds:
            raise InvalidSettings(
                f"session_timeout_seconds ({self.session_timeout_seconds}) has to be less "
                f"than request_timeout_seconds ({self.request_timeout_seconds})"
            )
