import socket
from pathlib import Path

import pytest

from orchestrator.local.errors import LocalServerError
from orchestrator.local.ports import LOOPBACK, keep_ports


def test_ports_are_the_same_in_the_next_run(tmp_path: Path) -> None:
    first = keep_ports(tmp_path / "ports.json", ("client", "controller"))

    assert keep_ports(tmp_path / "ports.json", ("client", "controller")) == first
    assert len(set(first.values())) == 2


def test_a_port_that_was_taken_meanwhile_is_replaced_and_the_others_are_kept(
    tmp_path: Path,
) -> None:
    first = keep_ports(tmp_path / "ports.json", ("client", "controller"))
    with socket.create_server((LOOPBACK, first["client"])):
        second = keep_ports(tmp_path / "ports.json", ("client", "controller"))

    assert second["client"] != first["client"]
    assert second["controller"] == first["controller"]


def test_a_wanted_port_that_is_taken_is_an_error_that_names_it(tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(LocalServerError, match=f"port {port} is taken"):
            keep_ports(tmp_path / "ports.json", ("client",), wanted=port)


def test_a_broken_record_of_ports_is_written_anew(tmp_path: Path) -> None:
    (tmp_path / "ports.json").write_text('{"client": 1')

    chosen = keep_ports(tmp_path / "ports.json", ("client",))

    assert keep_ports(tmp_path / "ports.json", ("client",)) == chosen
