"""The errors that packages share, in one tree, grouped by who has to act.

Those of one package alone (`Fenced`, `NameTaken`, `LocalServerError`, …) stand there, below these.

OrchestratorError
├── SenderError                the message's sender: it goes to `dead-letters`
│   └── InvalidMessage
├── OperatorError              who runs the service: settings, servers, schema
│   ├── InvalidSettings
│   ├── InvalidAgent
│   ├── NotFound
│   ├── NotAllowed
│   ├── SchemaMismatch
│   │   ├── SchemaBehind       of a release before: it is waited for
│   │   └── SchemaForeign      of another program, or not whole: no migration helps
│   └── UnreadableJournal
├── PeerError                  a model or an agent: the planner or the retry policy decides
│   ├── ModelFailed
│   └── AgentFailed
│       ├── UnusableAnswer     it may have done what was asked
│       └── CutShort           the task's time was over before the agent's
├── NotNow                     nobody: the call was not made, and is made later
├── StoreError                 PostgreSQL
│   ├── StoreUnavailable       nobody: it is tried again
│   └── StoreRejected          a value that PostgreSQL refuses
└── BusError                   Kafka
    └── KafkaUnavailable       nobody: it is tried again
"""

from typing import ClassVar

from orchestrator.domain.fault import Fault


class OrchestratorError(Exception):
    """The root: `code` is stable; where an error ends a task, the journal holds it."""

    code: ClassVar[str] = "internal"
    retryable: bool = False


class SenderError(OrchestratorError):
    """What was sent can't be used; sending the same again will not help."""

    code = "sender"


class InvalidMessage(SenderError):
    """A Kafka message that can't become a task or an event.

    `reason` is one of the dead-letter reasons (`invalid_json`, `schema`, `too_large`, …), the
    exception's text says what was expected, for a person.
    """

    code = "invalid_message"

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class OperatorError(OrchestratorError):
    """Something about the installation has to be changed."""

    code = "operator"


class InvalidSettings(OperatorError):
    """A setting is missing or wrong; the text names the variable and what it expects."""

    code = "invalid_settings"


class InvalidAgent(OperatorError):
    """An agent's declaration is wrong; the text names the field and what it expects."""

    code = "invalid_agent"


class NotFound(OperatorError):
    """There is no such task, agent or dead letter; the text names it."""

    code = "not_found"


class NotAllowed(OperatorError):
    """The thing is not in a state that allows this; the text says which state it is in."""

    code = "not_allowed"


class SchemaMismatch(OperatorError):
    """The database is not at the migration that this release needs."""

    code = "schema_mismatch"


class SchemaBehind(SchemaMismatch):
    """The database has the schema of a release before: somebody is about to migrate it."""

    code = "schema_behind"
    retryable = True


class SchemaForeign(SchemaMismatch):
    """The database belongs to another program, or its schema is damaged: it is left as it is."""

    code = "schema_foreign"


class UnreadableJournal(OperatorError):
    """A step was written by a later release, or by nobody of us: the task can't go on here."""

    code = "unreadable_journal"


class PeerError(OrchestratorError):
    """A call to a model or an agent failed.

    `retryable` says whether the same call may succeed later; `retry_after_seconds` is the peer's
    own wish, when it said one; `fault` what it says about the peer. `was_sent` is False where it
    surely never left this process.
    """

    code = "peer"

    def __init__(
        self,
        text: str,
        *,
        retryable: bool,
        retry_after_seconds: float | None = None,
        fault: Fault | None = None,
        was_sent: bool = True,
    ) -> None:
        super().__init__(text)
        self.was_sent = was_sent
        self.retryable = retryable
        self.retry_after_seconds = retry_after_seconds
        self.fault = fault


class ModelFailed(PeerError):
    """The model gave no answer: refused, timed out, limited, unreachable."""

    code = "model_failed"


class AgentFailed(PeerError):
    """The agent gave no usable answer: unreachable, 5xx, 4xx, not JSON, wrong schema, too large."""

    code = "agent_failed"


class UnusableAnswer(AgentFailed):
    """It answered, and not with a refusal: whatever it did, it may have done."""

    code = "unusable_answer"

    def __init__(self, text: str) -> None:
        super().__init__(text, retryable=False)


class CutShort(AgentFailed):
    """The task's deadline came before the agent's own time was over: it says nothing about it."""

    code = "cut_short"

    def __init__(self, text: str) -> None:
        super().__init__(text, retryable=True)


class NotNow(OrchestratorError):
    """An agent or a model can't be called for `seconds`; nothing was sent, and no try is spent.

    `cause` is a word of `domain.step.CallParked`, `target` who can't be called.
    """

    code = "not_now"

    def __init__(self, text: str, *, target: str, cause: str, seconds: float) -> None:
        super().__init__(text)
        self.target = target
        self.cause = cause
        self.seconds = seconds


class StoreError(OrchestratorError):
    """PostgreSQL did not do what was asked."""

    code = "store"


class StoreUnavailable(StoreError):
    """PostgreSQL can't be reached, or broke off; whether a statement took effect is unknown."""

    code = "store_unavailable"
    retryable = True


class StoreRejected(StoreError):
    """PostgreSQL refuses a value of this statement; the same statement will fail again."""

    code = "store_rejected"


class BusError(OrchestratorError):
    """Kafka did not do what was asked."""

    code = "bus"


class KafkaUnavailable(BusError):
    """Kafka can't be reached, or broke off; whether a message was taken is unknown."""

    code = "kafka_unavailable"
    retryable = True
