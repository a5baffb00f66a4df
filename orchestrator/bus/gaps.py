"""Messages that Kafka no longer has: how that is seen, and the dead letter that tells of it."""

from dataclasses import dataclass

from orchestrator.bus.dead_letters import GAP, Failure, Station, dead_letter
from orchestrator.store.ingest import DeadLetter, Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A partition whose position is not within what Kafka has of it."""

    topic: str
    partition: int
    position: int
    begin: int
    """Kafka's first offset."""
    end: int
    """Kafka's next offset."""

    @property
    def text(self) -> str:
        where = f"{self.topic}/{self.partition}"
        if self.position < self.begin:
            return (
                f"messages {self.position} to {self.begin - 1} of {where} are gone before they "
                f"were read: Kafka begins at {self.begin} (retention.ms or retention.bytes?)"
            )
        return (
            f"reading of {where} should go on at {self.position}, but Kafka ends at {self.end}: "
            "the topic was made anew, or Kafka lost messages"
        )

    @property
    def continue_at(self) -> int:
        """Where reading may go on: of a topic that was made anew, at its start."""
        return self.begin


def find_gap(topic: str, partition: int, *, position: int, begin: int, end: int) -> Gap | None:
    """What is wrong with a position, if anything."""
    if begin <= position <= end:
        return None
    return Gap(topic=topic, partition=partition, position=position, begin=begin, end=end)


def gap_letter(gap: Gap, *, station: Station) -> DeadLetter:
    """A letter without a value: there is nothing left to keep."""
    origin = Origin(topic=gap.topic, partition=gap.partition, offset=gap.position)
    failure = Failure(reason=GAP, error=gap.text, next_offset=gap.continue_at)
    return dead_letter(origin, failure, station=station)


def damage_letter(origin: Origin, *, next_offset: int, error: str, station: Station) -> DeadLetter:
    """For a batch of records that can't be decoded; its raw bytes are the value."""
    text = (
        f"messages {origin.offset} to {next_offset - 1} of {origin.topic}/{origin.partition} "
        f"can't be decoded: {error}"
    )
    failure = Failure(reason=GAP, error=text, next_offset=next_offset)
    return dead_letter(origin, failure, station=station)
