"""Messages of transactions: what was aborted is not read, and markers are no gaps."""

from aiokafka import AIOKafkaProducer

from orchestrator.bus.options import BusOptions
from orchestrator.bus.topics import cluster_id
from orchestrator.store.database import Database
from tests.fakes.bus import running_consumer, until
from tests.integration.bus.rows import all_positions, count, has_tasks, task_value


async def publish_in_transactions(options: BusOptions, transactional_id: str) -> None:
    """One that is aborted, one that is committed, each with its marker, in one partition."""
    async with AIOKafkaProducer(
        bootstrap_servers=options.bootstrap_servers, transactional_id=transactional_id
    ) as producer:
        for task_id, is_committed in (("aborted", False), ("committed", True)):
            await producer.begin_transaction()
            await producer.send_and_wait(
                options.topics.tasks, value=task_value(task_id), partition=0
            )
            if is_committed:
                await producer.commit_transaction()
            else:
                await producer.abort_transaction()


async def test_only_committed_messages_are_read_and_the_position_passes_the_markers(
    database: Database, options: BusOptions, topic_prefix: str
) -> None:
    cluster = await cluster_id(options)
    async with running_consumer(database, options) as consumer:
        await publish_in_transactions(options, f"{topic_prefix}producer")
        await until(lambda: has_tasks(database, 1))

        async def is_at_the_end() -> bool:
            found = await all_positions(database, options, cluster)
            return found[options.topics.tasks, 0] == 4

        await until(is_at_the_end)
        assert consumer.state.is_ready
    assert await count(database, "tasks WHERE task_id = 'committed'") == 1
    assert await count(database, "tasks") == 1
