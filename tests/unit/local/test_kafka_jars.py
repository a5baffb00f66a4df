import hashlib
from pathlib import Path

import pytest

from orchestrator.local.errors import LocalServerError
from orchestrator.local.kafka_jars import Jar, Lock, class_path, default_cache, read_lock


def locked(content: bytes) -> Lock:
    digest = hashlib.sha256(content).hexdigest()
    jar = Jar(group="org.example", name="thing", version="1", size=len(content), sha256=digest)
    return Lock(kafka_version="0", jars=(jar,))


async def test_cached_jars_that_are_the_locked_ones_are_used(tmp_path: Path) -> None:
    (tmp_path / "thing-1.jar").write_bytes(b"jar")

    jars = await class_path(locked(b"jar"), cache=tmp_path, say=pytest.fail)

    assert jars == (tmp_path / "thing-1.jar",)


async def test_a_jar_with_another_hash_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "thing-1.jar").write_bytes(b"something else")

    with pytest.raises(LocalServerError, match=r"thing-1\.jar.*expected SHA-256"):
        await class_path(locked(b"jar"), cache=tmp_path, say=pytest.fail)


def test_the_lock_names_each_jar_once_with_a_hash() -> None:
    lock = read_lock()

    assert len({jar.file_name for jar in lock.jars}) == len(lock.jars)
    assert all(len(bytes.fromhex(jar.sha256)) == 32 and jar.size > 0 for jar in lock.jars)
    assert f"kafka-clients-{lock.kafka_version}.jar" in {jar.file_name for jar in lock.jars}


def test_the_cache_is_outside_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")

    assert default_cache(locked(b"")) == Path("/somewhere/orchestrator/kafka-0")
