"""A Kafka that asks for a login, or speaks TLS alone: settings with Kafka's own words."""

import asyncio
import ssl
import subprocess
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from orchestrator.bus.options import Security
from orchestrator.local.java import find_java
from orchestrator.local.kafka import LocalKafka
from tests.fixtures.service import Place, Service, open_service

REGISTER = "Register the customer ACME"
PASSWORD = "canary-of-kafka"
LOGIN = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_me="{PASSWORD}";'
CLIENTS = "listener.name.client"


def protocol(name: str) -> dict[str, str]:
    """Of the listener for clients; the broker's own stay plain."""
    mapping = f"CLIENT:{name},INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT"
    return {"listener.security.protocol.map": mapping}


async def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed one for loopback: the broker's store, and the PEM file that clients trust."""
    keytool = (await find_java()).with_name("keytool")
    store, trusted = folder / "broker.p12", folder / "ca.pem"
    common = ["-keystore", str(store), "-storepass", PASSWORD, "-alias", "broker"]
    made = ["-genkeypair", "-keyalg", "EC", "-dname", "CN=broker", "-ext", "SAN=IP:127.0.0.1"]
    for words in ([*made, "-validity", "2"], ["-exportcert", "-rfc", "-file", str(trusted)]):
        argv = [str(keytool), *words, *common]
        await asyncio.to_thread(subprocess.run, argv, check=True, capture_output=True)
    return store, trusted


@asynccontextmanager
async def secured(
    database_url: str,
    folder: Path,
    *,
    properties: Mapping[str, str],
    security: Security,
    client: Mapping[str, Any],
) -> AsyncIterator[Service]:
    server = LocalKafka(folder / "kafka", extra_properties=properties)
    await server.start()
    try:
        place = Place(
            database_url=database_url,
            bootstrap_servers=server.bootstrap_servers,
            prefix=f"{uuid.uuid4().hex[:8]}-",
            folder=folder,
            security=security,
        )
        arguments = {"bootstrap_servers": server.bootstrap_servers, **client}
        async with open_service(place, client=arguments) as service:
            yield service
    finally:
        await server.stop()


async def done_once(service: Service, **variables: str) -> str:
    """One task from topic to topic by a worker with these variables; the worker's log."""
    await service.agent("crm", needs=["name"], adds={"customer_id": "C-1"})
    worker = service.worker()
    worker.environ.update(variables)
    await worker.start()
    await service.observer.task("t", REGISTER, "customer_id")
    await service.observer.told("t", "task.completed")
    return worker.text()


SASL = Security(security_protocol="SASL_PLAINTEXT", sasl_username="me", sasl_password=PASSWORD)
SASL_CLIENT = {
    "security_protocol": "SASL_PLAINTEXT",
    "sasl_mechanism": "PLAIN",
    "sasl_plain_username": "me",
    "sasl_plain_password": PASSWORD,
}
SASL_BROKER = {
    **protocol("SASL_PLAINTEXT"),
    "sasl.enabled.mechanisms": "PLAIN",
    f"{CLIENTS}.plain.sasl.jaas.config": LOGIN,
}
SASL_VARIABLES = {
    "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
    "KAFKA_SASL_USERNAME": "me",
    "KAFKA_SASL_PASSWORD": PASSWORD,
}


async def test_a_kafka_that_asks_for_a_password_gets_it_and_no_log_does(
    database_url: str, tmp_path: Path
) -> None:
    async with secured(
        database_url, tmp_path, properties=SASL_BROKER, security=SASL, client=SASL_CLIENT
    ) as service:
        assert PASSWORD not in await done_once(service, **SASL_VARIABLES)

        refused = service.worker("refused")
        refused.environ.update(SASL_VARIABLES, KAFKA_SASL_PASSWORD="wrong-canary")
        await refused.launch()

        assert await refused.ended() == 2
        assert "the broker refuses the login" in refused.text().splitlines()[-1]
        assert "wrong-canary" not in refused.text()


async def test_a_kafka_that_speaks_tls_is_trusted_by_its_authority(
    database_url: str, tmp_path: Path
) -> None:
    store, trusted = await certificate(tmp_path)
    security = Security(security_protocol="SSL", ssl_cafile=str(trusted))
    context = ssl.create_default_context(cafile=str(trusted))
    properties = {
        **protocol("SSL"),
        f"{CLIENTS}.ssl.keystore.type": "PKCS12",
        f"{CLIENTS}.ssl.keystore.location": str(store),
        f"{CLIENTS}.ssl.keystore.password": PASSWORD,
    }
    client = {"security_protocol": "SSL", "ssl_context": context}
    async with secured(
        database_url, tmp_path, properties=properties, security=security, client=client
    ) as service:
        await done_once(service, KAFKA_SECURITY_PROTOCOL="SSL", KAFKA_SSL_CAFILE=str(trusted))
