"""Rights at a broker that has an authorizer, where everybody is the same user: taken and given."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest

from orchestrator.bus.options import BusOptions

AUTHORIZER = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}
EVERYBODY, ANYWHERE = "User:ANONYMOUS", "*"
TOPIC, LITERAL = 2, 3
ANY, ALL, WRITE = 1, 2, 4
ANY_PERMISSION, DENY, ALLOW = 1, 2, 3


@asynccontextmanager
async def _admin(options: BusOptions) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=options.bootstrap_servers)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def deny_writing(options: BusOptions, topic: str) -> None:
    async with _admin(options) as client:
        for operation, permission in ((ALL, ALLOW), (WRITE, DENY)):
            answer = await client._send_request(
                CreateAclsRequest(TOPIC, topic, LITERAL, EVERYBODY, ANYWHERE, operation, permission)
            )
            assert [code for code, _ in answer.creation_responses] == [0]


async def allow_everything(options: BusOptions, topic: str) -> None:
    async with _admin(options) as client:
        await client._send_request(
            DeleteAclsRequest(TOPIC, topic, LITERAL, EVERYBODY, ANYWHERE, ANY, ANY_PERMISSION)
        )
