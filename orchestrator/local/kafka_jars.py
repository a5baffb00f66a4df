"""Apache Kafka's jars: fetched once, kept outside the repository, and each checked before use.

`kafka.lock.toml` names every jar with its version, size and SHA-256. A jar enters the cache by a
rename after its hash was checked, so a download that was cut off is never taken for a jar.
"""

import asyncio
import hashlib
import os
import shutil
import ssl
import tomllib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from orchestrator.local.errors import LocalServerError
from orchestrator.local.process import locked_folder

LOCK_FILE = Path(__file__).with_name("kafka.lock.toml")
_ATTEMPTS = 3
_SYSTEM_BUNDLES = (
    Path("/etc/ssl/certs/ca-certificates.crt"),
    Path("/etc/pki/tls/certs/ca-bundle.crt"),
    Path("/etc/ssl/cert.pem"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Jar:
    """One locked jar; `size` in bytes, `sha256` in hex."""

    group: str
    name: str
    version: str
    size: int
    sha256: str

    @property
    def file_name(self) -> str:
        return f"{self.name}-{self.version}.jar"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    kafka_version: str
    jars: tuple[Jar, ...]


def read_lock(path: Path = LOCK_FILE) -> Lock:
    content = tomllib.loads(path.read_text())
    return Lock(
        kafka_version=content["kafka_version"], jars=tuple(Jar(**jar) for jar in content["jar"])
    )


def default_cache(lock: Lock) -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "orchestrator" / f"kafka-{lock.kafka_version}"


async def class_path(lock: Lock, *, cache: Path, say: Callable[[str], None]) -> tuple[Path, ...]:
    """The checked jars in the lock's order; fetches what is missing, one process at a time.

    `say` is given a line for a person. Raises LocalServerError when a jar is not the locked one or
    can't be fetched.
    """
    async with locked_folder(cache, within_seconds=600):
        missing = [jar for jar in lock.jars if not (cache / jar.file_name).exists()]
        if missing:
            await asyncio.to_thread(_fetch_all, lock, missing, cache=cache, say=say)
    await asyncio.to_thread(_check_all, lock.jars, cache)
    return tuple(cache / jar.file_name for jar in lock.jars)


def _check_all(jars: Sequence[Jar], cache: Path) -> None:
    for jar in jars:
        path = cache / jar.file_name
        if (found := sha256(path)) != jar.sha256:
            raise LocalServerError(
                f"{str(path)!r} is not the jar that {LOCK_FILE.name} names: expected SHA-256 "
                f"{jar.sha256}, found {found}; delete the file, it is then fetched again"
            )


def sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _fetch_all(
    lock: Lock, missing: Sequence[Jar], *, cache: Path, say: Callable[[str], None]
) -> None:
    megabytes = round(sum(jar.size for jar in missing) / 1_000_000)
    say(f"Fetching Apache Kafka {lock.kafka_version} ({len(missing)} jars, {megabytes} MB, once) …")
    unfinished = cache / ".unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was killed; we hold the lock
    unfinished.mkdir()
    try:
        with system_certificates(), ThreadPoolExecutor(8, thread_name_prefix="jar") as threads:
            for done, _ in enumerate(
                threads.map(lambda jar: _fetch(jar, cache, unfinished), missing), start=1
            ):
                if done % 10 == 0 or done == len(missing):
                    say(f"  {done} of {len(missing)} jars")
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _fetch(jar: Jar, cache: Path, unfinished: Path) -> None:
    path = _download(jar, unfinished)
    if (found := sha256(path)) != jar.sha256:
        raise LocalServerError(
            f"the fetched {jar.file_name} is not the one that {LOCK_FILE.name} names: expected "
            f"SHA-256 {jar.sha256}, found {found}; it was not kept"
        )
    with path.open("rb") as content:
        os.fsync(content.fileno())
    path.replace(cache / jar.file_name)


def _download(jar: Jar, unfinished: Path) -> Path:
    try:
        # Here, because it costs 0.3 s and is needed once; optional, because production has no need.
        from jgo.maven import MavenContext  # noqa: PLC0415
    except ImportError as error:
        raise LocalServerError(
            "Apache Kafka can't be fetched: the package 'jgo' is missing; install "
            "orchestrator[dev], or set KAFKA_BOOTSTRAP_SERVERS to a Kafka that runs"
        ) from error
    cause: Exception | None = None
    for _ in range(_ATTEMPTS):
        # A folder for each attempt: the library takes a half-written file for a whole one.
        maven = MavenContext(repo_cache=Path(mkdtemp(dir=unfinished)), timeout=30)
        artifact = maven.project(jar.group, jar.name).at_version(jar.version).artifact()
        try:
            return Path(artifact.resolve())
        except (OSError, RuntimeError) as error:  # connections; a status other than 200
            cause = error
    raise LocalServerError(
        f"{jar.file_name} could not be fetched in {_ATTEMPTS} attempts: {cause}; try again, or set "
        "KAFKA_BOOTSTRAP_SERVERS to a Kafka that runs"
    ) from cause


@contextmanager
def system_certificates() -> Iterator[None]:
    """Lets `requests`, below jgo, trust what the machine trusts.

    By itself it knows only the authorities that it ships, so it fails behind a company's proxy. The
    variable is the only way in: jgo makes its requests without giving a session a way through.
    """
    names = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    bundle = next((path for path in _bundles() if path.exists()), None)
    if bundle is None or any(os.environ.get(name) for name in names):
        yield
        return
    os.environ[names[0]] = str(bundle)
    try:
        yield
    finally:
        del os.environ[names[0]]


def _bundles() -> Iterator[Path]:
    known = ssl.get_default_verify_paths().cafile
    if known is not None:
        yield Path(known)
    yield from _SYSTEM_BUNDLES
