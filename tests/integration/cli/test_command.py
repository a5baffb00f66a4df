import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.cli.main import SUBCOMMANDS
from tests.integration.cli.command import ROOT, orchestrator

HEAVY = ("langchain", "aiokafka", "sqlalchemy", "asyncpg", "fastapi", "httpx", "pydantic")


def test_help_names_every_command_and_loads_none() -> None:
    script = (
        "import sys\n"
        "from orchestrator.cli.main import main\n"
        "sys.argv = ['orchestrator', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print('LOADED', [m for m in {HEAVY!r} if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "LOADED []"
    assert all(f"\n  {name} " in done.stdout for name in SUBCOMMANDS)


def test_help_comes_at_once() -> None:
    def seconds(*arguments: str) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, check=True)
        return time.perf_counter() - started

    # Beside bare Python: what is asserted is ours, not the machine's.
    assert any(
        seconds("-m", "orchestrator", "--help") < 0.4 + 8 * seconds("-c", "pass") for _ in range(5)
    )


@pytest.mark.parametrize("name", sorted(SUBCOMMANDS))
def test_every_command_has_help(name: str) -> None:
    done = orchestrator(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: orchestrator {name}")


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("tasks", "show"),
        ("tasks", "list", "--status", "odd"),
        ("tasks", "show", "a", "--at", "yesterday"),
        ("tasks", "show", "a", "--at", "2026-01-01", "--step", "2"),
        ("publish",),
        ("publish", "task", "words", "--data", "no-value"),
        ("publish", "task", "words", "--deadline", "tomorrow"),
        ("publish", "--file", "/no/such/file"),
    ],
)
def test_a_wrong_command_line_exits_2(arguments: tuple[str, ...]) -> None:
    environ = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    done = orchestrator(*arguments, environ=environ)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [("tasks", "list"), ("migrate",), ("agents", "list")])
def test_a_missing_address_exits_2_and_says_what_to_do(arguments: tuple[str, ...]) -> None:
    done = orchestrator(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "error: DATABASE_URL: is missing; expected postgresql://user:password@host:5432/database",
        "error: or start `orchestrator dev` in this folder: commands find it by themselves",
    ]


def test_a_worker_tells_of_every_missing_setting() -> None:
    done = orchestrator("worker")
    names = [line.split(":")[1].strip() for line in done.stderr.splitlines()]
    assert names == ["DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS", "OPENAI_API_KEY"]
    assert done.returncode == 2


def test_an_absent_database_is_one_line_without_the_password() -> None:
    environ = {"DATABASE_URL": "postgresql://user:CANARY@127.0.0.1:1/database"}
    done = orchestrator("tasks", "list", environ=environ)
    assert done.returncode == 1
    assert done.stderr.startswith("error: PostgreSQL can't be reached")
    assert len(done.stderr.splitlines()) == 1
    assert "CANARY" not in done.stderr


def test_an_absent_broker_is_one_line_without_the_password() -> None:
    environ = {
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "KAFKA_SASL_USERNAME": "me",
        "KAFKA_SASL_PASSWORD": "CANARY",
    }
    done = orchestrator("publish", "task", "words", environ=environ)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert "CANARY" not in done.stderr


def test_settings_are_read_from_a_file_too(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ORCHESTRATOR_MAX_STEP=1\n")
    done = orchestrator("tasks", "list", cwd=tmp_path)
    assert "did you mean ORCHESTRATOR_MAX_STEPS?" in done.stderr


def test_version_as_json() -> None:
    assert set(json.loads(orchestrator("version", "--json").stdout)) == {"version", "python"}


def test_a_line_of_that_file_that_is_no_setting_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# a remark\n\nthis is broken\nPORT=1\n")
    done = orchestrator("tasks", "list", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: .env: line 3: expected NAME=value")


@pytest.mark.parametrize("port", ["abc", "0", "65536", "-1"])
def test_health_of_a_port_that_is_none_names_it(port: str) -> None:
    done = orchestrator("health", environ={"PORT": port})
    assert done.returncode == 2
    assert f"PORT is '{port}'" in done.stderr


@pytest.mark.parametrize("url", ["http://127.0.0.1:abc", "http://a b", "nothing"])
def test_health_of_what_is_no_address_is_told(url: str) -> None:
    done = orchestrator("health", "--url", url)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {url}/livez ")


def test_health_of_nobody_exits_1() -> None:
    done = orchestrator("health", "--json", environ={"PORT": "1"})
    assert done.returncode == 1
    assert json.loads(done.stdout)["ok"] is False
