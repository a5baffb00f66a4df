"""What Kafka's refusal of a message means: for this message alone, or for its whole topic."""

from aiokafka import errors as kafka


class InvalidRecord(kafka.BrokerResponseError):  # type: ignore[misc]  # aiokafka has no types
    """A record that its topic can't keep, such as one without a key where the log is compacted."""

    errno = 87
    message = "INVALID_RECORD"
    description = (
        "the topic refuses the message (it has no key and cleanup.policy is compact, or its "
        "timestamp is out of range)"
    )


# aiokafka 0.14 does not know the code and would report UnknownError.
kafka.kafka_errors.setdefault(InvalidRecord.errno, InvalidRecord)

OF_ONE_MESSAGE = (
    InvalidRecord,
    kafka.MessageSizeTooLargeError,
    kafka.RecordListTooLargeError,
    kafka.InvalidMessageError,
    kafka.InvalidTimestampError,
    kafka.UnsupportedForMessageFormatError,
    kafka.PolicyViolationError,
)
"""Sending the message again as it is would fail again; another message may pass."""


def is_of_one_message(error: BaseException) -> bool:
    """False where the topic or the cluster is the cause: the message waits until that is over."""
    return isinstance(error, OF_ONE_MESSAGE)


def told(error: BaseException) -> str:
    """A refusal in one line, for the row that is set aside."""
    name = getattr(error, "message", None) or type(error).__name__
    description = getattr(error, "description", None)
    return f"{name}: {description}" if description else str(name)
