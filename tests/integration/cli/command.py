"""The `orchestrator` command as people call it: a process of its own."""

import asyncio
import json
import os
import pty
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.fakes.forked_command import Done, run_forked

ROOT = Path(__file__).parents[3]


def orchestrator(
    *arguments: str,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
) -> Done:
    """The command, without any setting of the machine that runs the tests."""
    base = {"PATH": os.environ["PATH"], "COLUMNS": "100"}
    return run_forked(
        arguments, environ={**base, **(environ or {})}, cwd=cwd or ROOT / "tests", stdin=stdin
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
            run_forked,
            arguments,
            environ={"PATH": os.environ["PATH"], **environ},
            cwd=ROOT,
            terminal=os.ttyname(theirs),
        )
    finally:
        os.close(ours)
        os.close(theirs)


async def told(environ: Mapping[str, str], *arguments: str) -> Any:
    """What the command prints as JSON; it has to succeed."""
    done = await called(environ, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
