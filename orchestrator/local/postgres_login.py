"""The superuser's password: made once, kept beside the cluster, and asked of every connection.

Other accounts of this machine reach the port on loopback; without a password each of them would be
the superuser.
"""

import os
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path

SUPERUSER = "postgres"

_HOST_ACCESS = """\
host all all 127.0.0.1/32 scram-sha-256
host replication all 127.0.0.1/32 scram-sha-256
"""

RunSingle = Callable[[str], Awaitable[None]]
"""Runs statements on a cluster that no server runs on (`postgres --single`)."""


def kept_password(folder: Path) -> str | None:
    """The password of the cluster in `folder`; None before `require_password`."""
    path = _path(folder)
    return path.read_text() if path.exists() else None


async def require_password(folder: Path, cluster: Path, run_single: RunSingle) -> str:
    """Sets the password where there is none, and has it asked for; gives it."""
    password = kept_password(folder)
    access = cluster / "pg_hba.conf"
    if password is not None and access.read_text() == _HOST_ACCESS:
        return password
    password = password or secrets.token_urlsafe(24)
    _keep(_path(folder), password)
    # One iteration: it is random, so there is nothing to guess that more would slow down.
    await run_single(f"SET scram_iterations = 1;\nALTER USER {SUPERUSER} PASSWORD '{password}';\n")
    access.write_text(_HOST_ACCESS)  # last: a start that is killed before does all of it again
    return password


def _path(folder: Path) -> Path:
    return folder / "password"


def _keep(path: Path, password: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(password)
