"""Free TCP ports on loopback that a server keeps from one run to the next."""

import json
import random
import socket
from collections.abc import Sequence
from pathlib import Path

from orchestrator.local.errors import LocalServerError

LOOPBACK = "127.0.0.1"

# Below the ports that systems give to outgoing connections. A client that tries again and again to
# reach a stopped server on such a port can be given that very port, connect to itself, and keep it.
_CANDIDATES = range(10_000, 32_000)


def keep_ports(kept_in: Path, names: Sequence[str], *, wanted: int | None = None) -> dict[str, int]:
    """A free port for each name: `wanted` for the first, else the last run's unless taken.

    Raises LocalServerError when `wanted` is taken.
    """
    if wanted is not None and not is_free(wanted):
        raise LocalServerError(f"port {wanted} is taken; choose another, or none for a free one")
    last = _read(kept_in)
    chosen: dict[str, int] = {}
    for name in names:
        port = wanted if wanted is not None and not chosen else last.get(name)
        if port is None or port in chosen.values() or not is_free(port):
            port = _pick(besides=set(chosen.values()))
        chosen[name] = port
    if chosen != last:
        kept_in.parent.mkdir(parents=True, exist_ok=True)
        unfinished = kept_in.with_suffix(".new")
        unfinished.write_text(json.dumps(chosen))
        unfinished.replace(kept_in)
    return chosen


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: a port whose old connections linger in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def _pick(*, besides: set[int]) -> int:
    for _ in range(200):
        port = random.choice(_CANDIDATES)
        if port not in besides and is_free(port):
            return port
    raise LocalServerError(f"no free port on {LOOPBACK} among 200 tried")


def _read(path: Path) -> dict[str, int]:
    try:
        kept = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return {name: port for name, port in kept.items() if isinstance(port, int)}
