"""Writes `kafka.lock.toml` anew: `python -m orchestrator.local.kafka_lock`, with a new VERSION."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestrator.local.kafka_jars import LOCK_FILE, Jar, sha256, system_certificates

VERSION = "4.3.1"
LOG_BINDING = ("org.apache.logging.log4j", "log4j-slf4j-impl", "log4j-core")
"""The broker's own log needs it; it has the version of the log4j that Kafka asks for."""


def resolve(folder: Path) -> Iterator[Jar]:
    """Every jar that a broker of this version needs, fetched into `folder`."""
    from jgo.maven import Dependency, MavenContext  # noqa: PLC0415  (optional, see kafka_jars)

    maven = MavenContext(repo_cache=folder, timeout=30)
    broker = maven.project("org.apache.kafka", "kafka_2.13").at_version(VERSION)
    direct, transitive = maven.resolver.resolve([Dependency(broker.artifact())])
    group, name, same_version_as = LOG_BINDING
    version = next(each.version for each in transitive if each.artifactId == same_version_as)
    binding = maven.project(group, name).at_version(version)
    artifacts: list[Any] = [each.artifact for each in (*direct, *transitive)]
    for artifact in [*artifacts, binding.artifact()]:
        path = Path(artifact.resolve())
        yield Jar(
            group=artifact.groupId,
            name=artifact.artifactId,
            version=artifact.version,
            size=path.stat().st_size,
            sha256=sha256(path),
        )


def as_toml(jars: list[Jar]) -> str:
    lines = [
        "# The jars of the local Kafka. Written by `python -m orchestrator.local.kafka_lock`.",
        f'kafka_version = "{VERSION}"',
    ]
    for jar in sorted(jars, key=lambda jar: (jar.group, jar.name)):
        lines += [
            "",
            "[[jar]]",
            *(f'{key} = "{getattr(jar, key)}"' for key in ("group", "name", "version", "sha256")),
            f"size = {jar.size}",
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, system_certificates():
        jars = list(resolve(Path(folder)))
    LOCK_FILE.write_text(as_toml(jars))
    sys.stderr.write(f"{LOCK_FILE.name}: {len(jars)} jars\n")


if __name__ == "__main__":
    main()
