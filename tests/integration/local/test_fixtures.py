import asyncpg

from tests.fixtures.servers import KafkaServer, PostgresServer


async def test_each_test_has_a_migrated_database_of_its_own(
    database_url: str, postgres: PostgresServer
) -> None:
    connection = await asyncpg.connect(database_url)
    assert await connection.fetchval("SELECT count(*) FROM tasks") == 0
    await connection.close()
    assert database_url != postgres.dsn("postgres")


async def test_a_server_that_a_test_broke_is_mended_afterwards(
    database_url: str, postgres: PostgresServer
) -> None:
    await postgres.kill()


async def test_a_server_that_a_test_froze_is_mended_afterwards(
    topic_prefix: str, kafka: KafkaServer
) -> None:
    kafka.freeze()


async def test_the_next_test_finds_both_at_work(
    database_url: str, topic_prefix: str, kafka: KafkaServer
) -> None:
    connection = await asyncpg.connect(database_url)
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()
    assert topic_prefix.startswith("test-")
