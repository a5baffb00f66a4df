"""The `orchestrator` command as people call it: a process of its own."""

import asyncio
import json
import os
import pty
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]

Done = subprocess.CompletedProcess[str]


def orchestrator(
    *arguments: str,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
) -> Done:
    """The command, without any setting of the machine that runs the tests."""
    base = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", *arguments],
        env={**base, **(environ or {})},
        cwd=cwd or ROOT / "tests",
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def called(environ: Mapping[str, str], *arguments: str, stdin: str | None = None) -> Done:
    """The command, while the test's event loop goes on."""
    return await asyncio.to_thread(orchestrator, *arguments, environ=environ, stdin=stdin)


async def asked(environ: Mapping[str, str], *arguments: str, answer: str) -> Done:
    """The command, called by a person at a terminal who answers its question."""
    ours, theirs = pty.openpty()
    os.write(ours, answer.encode())
    try:
        return await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "orchestrator", *arguments],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environ},
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=60,
        )
    finally:
        os.close(ours)
        os.close(theirs)


async def told(environ: Mapping[str, str], *arguments: str) -> Any:
    """What the command prints as JSON; it has to succeed."""
    done = await called(environ, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
