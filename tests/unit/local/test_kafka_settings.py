from pathlib import Path

from orchestrator.local.java import parse_major_version
from orchestrator.local.kafka_settings import Listeners, as_file, server_properties

LISTENERS = Listeners(client=1, internal=2, controller=3)


def test_extra_properties_win() -> None:
    extra = {"message.max.bytes": "1", "ssl.client.auth": "required"}

    properties = server_properties(LISTENERS, log_dir=Path("/logs"), extra=extra)

    assert properties["message.max.bytes"] == "1"
    assert properties["ssl.client.auth"] == "required"


def test_clients_are_told_the_client_port_only_on_loopback() -> None:
    properties = server_properties(LISTENERS, log_dir=Path("/logs"), extra={})

    assert properties["advertised.listeners"] == "CLIENT://127.0.0.1:1,INTERNAL://127.0.0.1:2"


def test_clients_behind_a_proxy_are_told_the_proxys_port() -> None:
    listeners = Listeners(client=1, internal=2, controller=3, proxied=4, proxy=5)
    properties = server_properties(listeners, log_dir=Path("/logs"), extra={})

    assert "PROXIED://127.0.0.1:4" in properties["listeners"]
    assert properties["advertised.listeners"].endswith(",PROXIED://127.0.0.1:5")


def test_backslashes_and_line_ends_in_a_value_are_escaped() -> None:
    assert as_file({"a": "x\\y", "b": "1\n2"}) == "a=x\\\\y\nb=1\\\n2\n"


def test_javas_version_is_read_from_what_it_says() -> None:
    assert parse_major_version('openjdk version "25.0.2" 2026-01-20 LTS') == 25
    assert parse_major_version('java version "1.8.0_401"') == 8
    assert parse_major_version("no such thing") is None
