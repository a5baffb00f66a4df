"""The `orchestrator` command, forked from a process that has imported the libraries it needs.

The imports take a second or three each time, and the tests call it hundreds of times. What of
ours lies above them is imported by the command itself, under its own variables.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

Done = subprocess.CompletedProcess[str]

TIMEOUT_SECONDS = 60.0
PRELOADED = [
    "orchestrator.app",
    "langchain_openai",
    "alembic.command",
    "typer",
    "rich.table",
    "pytest",
]

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload([*PRELOADED, "pytest", __name__])


def run_forked(
    arguments: Sequence[str],
    *,
    environ: Mapping[str, str],
    cwd: Path,
    stdin: str | None = None,
    terminal: str | None = None,
) -> Done:
    """What the command said, and its exit status; `terminal` is a device to read answers from."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").write_text(stdin or "")
        command = _forks.Process(
            target=_become,
            args=(tuple(arguments), dict(environ), cwd, terminal or folder / "in", folder),
        )
        command.start()
        command.join(TIMEOUT_SECONDS)
        if command.exitcode is None:
            command.kill()
            command.join()
            raise subprocess.TimeoutExpired(["orchestrator", *arguments], TIMEOUT_SECONDS)
        said, complained = (folder / "out").read_text(), (folder / "err").read_text()
        status = command.exitcode
        command.close()
    return subprocess.CompletedProcess(["orchestrator", *arguments], status, said, complained)


def _become(
    arguments: Sequence[str], environ: Mapping[str, str], cwd: Path, stdin: Path, folder: Path
) -> None:
    for descriptor, file, flags in (
        (0, stdin, os.O_RDONLY),
        (1, folder / "out", os.O_WRONLY | os.O_CREAT),
        (2, folder / "err", os.O_WRONLY | os.O_CREAT),
    ):
        os.dup2(os.open(file, flags, 0o600), descriptor)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  (multiprocessing has closed the other one)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environ)
    sys.argv = ["orchestrator", *arguments]
    from orchestrator.cli.main import main  # noqa: PLC0415  (it reads the variables)

    main()
