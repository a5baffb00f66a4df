"""Options → aiokafka's arguments, and the one place where aiokafka's errors become ours."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka import errors as kafka
from aiokafka.conn import collect_hosts, create_conn

from orchestrator.bus.options import PREFIX, BusOptions, Security
from orchestrator.domain.errors import InvalidSettings, KafkaUnavailable

LOGIN_ERRORS = (
    kafka.AuthenticationFailedError,
    kafka.SaslAuthenticationFailed,
    kafka.IllegalSaslStateError,
)
MECHANISM_ERRORS = (kafka.UnsupportedSaslMechanismError, kafka.AuthenticationMethodNotSupported)
PERMISSION_ERRORS = (
    kafka.TopicAuthorizationFailedError,
    kafka.GroupAuthorizationFailedError,
    kafka.ClusterAuthorizationFailedError,
)


def ssl_context(security: Security) -> ssl.SSLContext:
    """What TLS needs.

    Raises:
        InvalidSettings: a file can't be read, or is not what its variable says.
    """
    try:
        context = ssl.create_default_context(cafile=security.ssl_cafile)
    except (OSError, ssl.SSLError) as error:
        raise InvalidSettings(
            f"{PREFIX}SSL_CAFILE ({security.ssl_cafile}) can't be used: {error}; "
            "expected a PEM file"
        ) from error
    context.check_hostname = security.ssl_check_hostname
    if security.ssl_certfile:
        try:
            context.load_cert_chain(
                security.ssl_certfile, security.ssl_keyfile, security.ssl_key_password
            )
        except (OSError, ssl.SSLError) as error:
            raise InvalidSettings(
                f"{PREFIX}SSL_CERTFILE ({security.ssl_certfile}) or {PREFIX}SSL_KEYFILE "
                f"({security.ssl_keyfile}) can't be used: {error}; check the files and "
                f"{PREFIX}SSL_KEY_PASSWORD"
            ) from error
    return context


def security_arguments(security: Security) -> dict[str, Any]:
    arguments: dict[str, Any] = {"security_protocol": security.security_protocol}
    if security.uses_ssl:
        arguments["ssl_context"] = ssl_context(security)
    if security.uses_sasl:
        arguments |= {
            "sasl_mechanism": security.sasl_mechanism,
            "sasl_plain_username": security.sasl_username,
            "sasl_plain_password": security.sasl_password,
        }
    return arguments


@asynccontextmanager
async def answered_within(consumer: AIOKafkaConsumer, seconds: float) -> AsyncIterator[None]:
    """For requests of ours. Raises TimeoutError, and gives the client's connections up with it.

    aiokafka closes a connection that does not answer in its own, longer time. It would keep one of
    which we lose patience first, and send each next request into the same silence.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        for connection in list(consumer._client._conns.values()):  # noqa: SLF001
            connection.close()
        raise


CLIENT_ERRORS = (kafka.KafkaError, RuntimeError)
"""What aiokafka raises for what became of a connection.

It lets pass what uvloop says, a RuntimeError, of one that was reset just before a write.
"""


def client_arguments(options: BusOptions) -> dict[str, Any]:
    """What every aiokafka client takes."""
    return {
        "bootstrap_servers": options.bootstrap_servers,
        "client_id": options.client_id,
        "request_timeout_ms": int(options.request_timeout_seconds * 1000),
        **security_arguments(options.security),
    }


@contextmanager
def kafka_errors(doing: str) -> Iterator[None]:
    """Translates what aiokafka raises; `doing` says what was tried ("read topic 'tasks'")."""
    try:
        yield
    except PERMISSION_ERRORS as error:
        raise InvalidSettings(
            f"Kafka does not allow this user to {doing}: {error!r}; grant it, or change "
            f"{PREFIX}SASL_USERNAME"
        ) from error
    except (*LOGIN_ERRORS, *MECHANISM_ERRORS) as error:
        raise _login_refused(error) from error
    except (*CLIENT_ERRORS, OSError, TimeoutError) as error:
        reason = str(error) or type(error).__name__
        raise KafkaUnavailable(f"Kafka: could not {doing}: {reason}") from error


def _login_refused(error: BaseException) -> InvalidSettings:
    if isinstance(error, MECHANISM_ERRORS):
        return InvalidSettings(
            f"{PREFIX}SASL_MECHANISM: the broker does not offer this mechanism: {error}; "
            "set one that it does"
        )
    return InvalidSettings(
        f"{PREFIX}SASL_USERNAME or {PREFIX}SASL_PASSWORD: the broker refuses the login: check both"
    )


async def check(options: BusOptions) -> None:
    """Tries to log in to one broker after the other; returns when one lets us in.

    aiokafka's own bootstrap only logs why it failed, which leaves a wrong password looking like an
    absent broker.

    Raises:
        InvalidSettings: a broker answers and refuses.
        KafkaUnavailable: none answers.
    """
    arguments = client_arguments(options)
    hosts = collect_hosts(arguments.pop("bootstrap_servers"))
    reasons = []
    for host, port, _ in hosts:
        try:
            connection = await create_conn(host, port, **arguments)
        except (*LOGIN_ERRORS, *MECHANISM_ERRORS) as error:
            raise _login_refused(error) from error
        except ssl.SSLCertVerificationError as error:
            raise InvalidSettings(
                f"the certificate of {host}:{port} is not trusted ({error.verify_message}): set "
                f"{PREFIX}SSL_CAFILE to the authority that signed it"
            ) from error
        except (kafka.KafkaError, OSError, TimeoutError) as error:
            reasons.append(f"{host}:{port}: {str(error) or type(error).__name__}")
        else:
            connection.close()
            return
    raise KafkaUnavailable(
        f"no broker of {PREFIX}BOOTSTRAP_SERVERS lets us in, with {PREFIX}SECURITY_PROTOCOL="
        f"{options.security.security_protocol}: {'; '.join(reasons)}"
    )
