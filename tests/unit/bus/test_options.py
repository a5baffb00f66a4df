"""Wrong options are refused in words that name the variable."""

import ssl
from pathlib import Path

import pytest

from orchestrator.bus.connection import client_arguments
from orchestrator.bus.options import BusOptions, Security, Topics
from orchestrator.domain.errors import InvalidSettings


def test_plain_text_needs_nothing() -> None:
    arguments = client_arguments(BusOptions())
    assert arguments["security_protocol"] == "PLAINTEXT"
    assert "ssl_context" not in arguments


def test_sasl_over_tls_brings_a_context_and_a_login() -> None:
    security = Security(security_protocol="SASL_SSL", sasl_username="u", sasl_password="p")
    arguments = client_arguments(BusOptions(security=security))
    assert isinstance(arguments["ssl_context"], ssl.SSLContext)
    assert arguments["sasl_plain_username"] == "u"


def test_a_password_is_not_shown() -> None:
    security = Security(security_protocol="SASL_SSL", sasl_username="u", sasl_password="hush")
    assert "hush" not in repr(BusOptions(security=security))


def test_sasl_without_a_password_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="KAFKA_SASL_PASSWORD"):
        Security(security_protocol="SASL_PLAINTEXT", sasl_username="u")


def test_two_topics_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidSettings, match="share a name"):
        BusOptions(topics=Topics(events="tasks"))


def test_two_topics_that_kafka_takes_for_one_name_are_refused() -> None:
    with pytest.raises(InvalidSettings, match=r"differ only in '\.' and '_'.*a\.b.*a_b"):
        BusOptions(topics=Topics(tasks="a.b", task_updates="a_b"))


def test_a_file_that_is_not_there_is_named() -> None:
    security = Security(security_protocol="SSL", ssl_cafile="/nowhere/ca.pem")
    with pytest.raises(InvalidSettings, match=r"SSL_CAFILE \(/nowhere/ca.pem\)"):
        client_arguments(BusOptions(security=security))


def test_a_key_that_is_no_key_is_named(tmp_path: Path) -> None:
    file = tmp_path / "client.pem"
    file.write_text("nonsense")
    security = Security(security_protocol="SSL", ssl_certfile=str(file))
    with pytest.raises(InvalidSettings, match="SSL_CERTFILE"):
        client_arguments(BusOptions(security=security))


def test_a_batch_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="BATCH_MESSAGES is 0"):
        BusOptions(batch_messages=0)
