"""Messages that Kafka no longer has: how that is seen, and the dead letter that tells of it."""

from dataclasses import dataclass

from orchestrator.bus.dead_letters import GAP, Failure, Station, dead_letter
from orchestrator.store.ingest import DeadLetter, Origin
from orchestrator.store.positions import Position


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
    made_anew: tuple[str, str] | None = None
    """The id of the topic that the position belongs to, and the one that its namesake has now."""

    @property
    def text(self) -> str:
        where = f"{self.topic}/{self.partition}"
        if self.made_anew is not None:
            was, now = self.made_anew
            return (
                f"reading of {where} should go on at {self.position} of a topic that was deleted: "
                f"this one was made anew (its id was {was}, now it is {now}), with "
                f"{self.end - self.begin} messages"
            )
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


def find_gap(
    partition: tuple[str, int], position: Position, *, log: tuple[int, int], topic_id: str | None
) -> Gap | None:
    """What is wrong with a position, if anything. `log` is where Kafka's begins and ends.

    Offsets of a topic that was deleted say nothing about its namesake, however long that one is;
    unless nothing was read of it yet.
    """
    begin, end = log
    (topic, number), was = partition, position.topic_id
    is_new = was != topic_id and position.next_offset > 0
    made_anew = (was, topic_id) if was and topic_id and is_new else None
    if made_anew is None and begin <= position.next_offset <= end:
        return None
    return Gap(
        topic=topic,
        partition=number,
        position=position.next_offset,
        begin=begin,
        end=end,
        made_anew=made_anew,
    )


def gap_letter(gap: Gap, *, station: Station) -> DeadLetter:
    """A letter without a value: there is nothing left to keep."""
    origin = Origin(topic=gap.topic, partition=gap.partition, offset=gap.position)
    failure = Failure(reason=GAP, error=gap.text, next_offset=gap.continue_at)
    return dead_letter(origin, failure, station=station)


def damage_letter(
    origin: Origin, *, next_offset: int, error: str, reason: str = GAP, station: Station
) -> DeadLetter:
    """For a batch of records that can't be decoded; its raw bytes are the value."""
    text = (
        f"messages {origin.offset} to {next_offset - 1} of {origin.topic}/{origin.partition} "
        f"can't be decoded: {error}"
    )
    failure = Failure(reason=reason, error=text, next_offset=next_offset)
    return dead_letter(origin, failure, station=station)
