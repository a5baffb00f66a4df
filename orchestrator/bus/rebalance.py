"""Which partitions are ours, and where reading of each goes on.

Written by aiokafka's coordinator when the group rebalances and by the session between two polls;
both on one event loop, and never across an `await`. The listener only takes notes: whatever waits
for PostgreSQL happens in the session, so that a rebalance waits for nobody.
"""

from collections.abc import Iterable, Mapping

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import IllegalStateError

from orchestrator.bus.gaps import Gap


class Assignment(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """A partition is unplaced, then placed (read from its position) or in a gap (kept still)."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self.generation = 0
        """Grows with each rebalance: what was begun under an earlier one is void."""
        self.is_joined = False
        self.unplaced: set[TopicPartition] = set()
        self.positions: dict[TopicPartition, int] = {}
        """Where PostgreSQL's position is, of what is placed."""
        self.gaps: dict[TopicPartition, Gap] = {}

    @property
    def all(self) -> frozenset[TopicPartition]:
        """Whatever the group gave us."""
        return frozenset((*self.unplaced, *self.positions, *self.gaps))

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:  # noqa: ARG002 - aiokafka's signature
        """Everything is void: aiokafka revokes all partitions at each rebalance.

        A write under way needs no waiting for: if it comes too late, the new owner's position is
        not where it expects it.
        """
        self._forget()
        self.is_joined = False

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._forget()
        self.unplaced = set(assigned)
        for partition in self.unplaced:
            self._consumer.pause(partition)
            # Any position will do: without one aiokafka looks for the group's committed offset,
            # and complains for as long as there is none.
            self._consumer.seek(partition, 0)
        self.is_joined = True

    def place(self, partition: TopicPartition, position: int, *, paused: bool) -> None:
        """Reading goes on here."""
        if self._seek(partition, position):
            self.unplaced.discard(partition)
            self.gaps.pop(partition, None)
            self.positions[partition] = position
            if not paused:
                self._consumer.resume(partition)

    def unplace(self, partitions: Iterable[TopicPartition]) -> None:
        """PostgreSQL has to be asked again where reading of these goes on."""
        for partition in partitions:
            known = partition in self.positions or partition in self.gaps
            if known and self._pause(partition):
                self.positions.pop(partition, None)
                self.gaps.pop(partition, None)
                self.unplaced.add(partition)

    def stop_at(self, partition: TopicPartition, gap: Gap) -> None:
        """Keeps a partition still."""
        if self._pause(partition):
            self.unplaced.discard(partition)
            self.positions.pop(partition, None)
            self.gaps[partition] = gap

    def moved(self, positions: Mapping[TopicPartition, int]) -> None:
        """What was read is in PostgreSQL."""
        self.positions.update(positions)

    def seek_all(self) -> None:
        """Reads again what was read but not written."""
        for partition, position in list(self.positions.items()):
            self._seek(partition, position)

    def pause_all(self) -> None:
        for partition in list(self.positions):
            self._pause(partition)

    def resume_all(self) -> None:
        for partition in list(self.positions):
            if partition in self._consumer.assignment():
                self._consumer.resume(partition)

    def _forget(self) -> None:
        self.generation += 1
        self.unplaced, self.positions, self.gaps = set(), {}, {}

    def _pause(self, partition: TopicPartition) -> bool:
        # Between aiokafka's own change of the assignment and its telling us, ours is out of date.
        if partition not in self._consumer.assignment():
            return False
        self._consumer.pause(partition)
        return True

    def _seek(self, partition: TopicPartition, position: int) -> bool:
        try:
            self._consumer.seek(partition, position)
        except IllegalStateError:
            return False
        return True
