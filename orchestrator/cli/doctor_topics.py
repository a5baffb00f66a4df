"""What `orchestrator doctor` says of the topics' settings, and of the user's rights to them."""

from collections.abc import Iterator, Sequence

from orchestrator.bus.options import BusOptions
from orchestrator.bus.topic_facts import TopicFacts
from orchestrator.bus.topics import LETTER_OVERHEAD_BYTES
from orchestrator.cli.finding import Finding


def topic_findings(facts: Sequence[TopicFacts], options: BusOptions) -> Iterator[Finding]:
    """One for each topic that something is wrong with."""
    for topic in facts:
        yield from _rights(topic, options)
        if topic.settings:
            yield from _settings(topic, options)


def _rights(topic: TopicFacts, options: BusOptions) -> Iterator[Finding]:
    for right in topic.denied:
        then = "its messages wait in PostgreSQL until Kafka allows it"
        if topic.name in options.topics.inputs:
            then = "nothing of it is read"
        yield Finding(
            name="rights",
            state="failed",
            says=f"this user may not {right} topic {topic.name!r}: {then}",
            advice=f"grant the user {right.capitalize()} on the topic, with kafka-acls",
        )


def _settings(topic: TopicFacts, options: BusOptions) -> Iterator[Finding]:
    policy = topic.settings.get("cleanup.policy", "")
    if "compact" in policy:
        yield _compacted(topic, policy, options)
    in_sync = topic.settings.get("min.insync.replicas", "1")
    if in_sync.isdigit() and int(in_sync) > topic.replicas:
        yield Finding(
            name="topic",
            state="warning",
            says=(
                f"{topic.name}: min.insync.replicas is {in_sync}, and a partition has "
                f"{topic.replicas} replicas: many brokers refuse every message then"
            ),
            advice="lower min.insync.replicas, or add replicas to the topic",
        )
    yield from _size(topic, options)


def _compacted(topic: TopicFacts, policy: str, options: BusOptions) -> Finding:
    says = f"{topic.name}: cleanup.policy is {policy!r}: Kafka deletes all but the last of a key"
    is_letters = topic.name == options.topics.dead_letters
    if is_letters:
        says += ", and refuses dead letters without a key"
    return Finding(
        name="topic",
        state="failed" if is_letters else "warning",
        says=says,
        advice=f"set cleanup.policy=delete on topic {topic.name!r}, with kafka-configs",
    )


def _size(topic: TopicFacts, options: BusOptions) -> Iterator[Finding]:
    largest = topic.settings.get("max.message.bytes", "")
    needed = options.max_publish_bytes
    if topic.name == options.topics.dead_letters:
        needed = max(options.max_message_bytes, needed) + LETTER_OVERHEAD_BYTES
    elif topic.name in options.topics.inputs:
        needed = options.max_message_bytes
    if largest.isdigit() and int(largest) < needed:
        yield Finding(
            name="topic",
            state="warning",
            says=f"{topic.name}: max.message.bytes is {largest}, less than the {needed} needed",
            advice=f"set max.message.bytes={needed} on topic {topic.name!r}, with kafka-configs",
        )
