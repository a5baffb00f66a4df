"""The network between workers and PostgreSQL, Kafka, the agents or the model fails in four ways.

A proxy stands in each worker's way: connections are reset, slow, half-open (the worker's end hears
nothing, for ever), or a black hole (nothing passes, new connections neither).
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from chaos.arena import Arena
from chaos.fault import Bar, Fault, Times
from chaos.faults import servers
from chaos.faults.kafka import READS_ON, reads_on
from chaos.faults.postgres import GOES_ON
from chaos.proxy import LOOPBACK, Proxy, by_way_of, running_proxy

SECONDS, SECONDS_SHORT = 15.0, 3.0
DELAY_SECONDS = 0.2
RESETS = 5
REPLIES_SECONDS = 0.5
MAX_REPLY_BYTES = 4000

STEPS = """
SELECT coalesce(max(extract(epoch FROM at))::float8, 0) AS at FROM steps WHERE kind = ANY($1)
"""

Prepare = Callable[[Arena], tuple[str, int, int, Callable[[Proxy], Mapping[str, str]]]]
"""The server's host and port, where the proxy has to listen, and what workers are told of it."""


def _before(url: str, variable: str) -> tuple[str, int, int, Callable[[Proxy], Mapping[str, str]]]:
    parts = urlsplit(url)
    assert parts.port is not None
    return LOOPBACK, parts.port, 0, lambda proxy: {variable: by_way_of(proxy, url)}


def _of(variable: str) -> Prepare:
    return lambda arena: _before(arena.fleet.environ[variable], variable)


def _kafka(arena: Arena) -> tuple[str, int, int, Callable[[Proxy], Mapping[str, str]]]:
    assert arena.servers.kafka_detour is not None, "these servers have no way for a proxy"
    at, target = arena.servers.kafka_detour
    return LOOPBACK, target, at, lambda proxy: {"KAFKA_BOOTSTRAP_SERVERS": proxy.address}


class Network:
    """Between the workers and one peer; its proxy lives as long as a run."""

    def __init__(
        self, prepare: Prepare, *, goes_on: Callable[[Arena, float], Awaitable[None]]
    ) -> None:
        self._prepare = prepare
        self._goes_on = goes_on
        self._proxy: Proxy | None = None
        self._ways = itertools.cycle([self._black_hole, self._half_open, self._reset, self._slow])

    @property
    def proxy(self) -> Proxy:
        assert self._proxy is not None, "prepare() comes first"
        return self._proxy

    @asynccontextmanager
    async def prepare(self, arena: Arena) -> AsyncIterator[Mapping[str, str]]:
        host, port, at, told = self._prepare(arena)
        async with running_proxy(host, port, at=at) as proxy:
            self._proxy = proxy
            yield told(proxy)

    async def inject(self, arena: Arena) -> None:
        """The next way in turn, for a while."""
        seconds = SECONDS_SHORT if arena.size.is_short else SECONDS
        try:
            await next(self._ways)(seconds)
        finally:
            self.proxy.heal()
        await self._goes_on(arena, time.time())

    async def lose_replies(self, arena: Arena) -> None:
        """Every connection that is made meanwhile ends in the middle of an answer."""
        before = self.proxy.cuts
        self.proxy.budget = lambda: arena.dice.randint(1, MAX_REPLY_BYTES)
        self.proxy.cut()
        await asyncio.sleep(REPLIES_SECONDS)
        self.proxy.heal()
        arena.measured["answers cut off"].append(self.proxy.cuts - before)

    async def _reset(self, seconds: float) -> None:
        for _ in range(RESETS):
            self.proxy.cut()
            await asyncio.sleep(min(seconds, SECONDS_SHORT) / RESETS)

    async def _slow(self, seconds: float) -> None:
        self.proxy.delay_seconds = DELAY_SECONDS
        await asyncio.sleep(seconds)

    async def _half_open(self, seconds: float) -> None:
        self.proxy.half_open()
        await asyncio.sleep(seconds)

    async def _black_hole(self, seconds: float) -> None:
        self.proxy.black_hole()
        await asyncio.sleep(seconds)


def _steps(*kinds: str) -> Callable[[Arena, float], Awaitable[None]]:
    async def goes_on(arena: Arena, since: float) -> None:
        await servers.goes_on(arena, GOES_ON, STEPS, list(kinds), since=since)

    return goes_on


_postgres = Network(_of("DATABASE_URL"), goes_on=_steps("decision", "result", "completed"))
_to_kafka = Network(_kafka, goes_on=reads_on)
_agents = Network(_of("CHAOS_AGENTS_URL"), goes_on=_steps("result"))
_model = Network(_of("OPENAI_BASE_URL"), goes_on=_steps("decision"))
_replies = Network(_of("DATABASE_URL"), goes_on=_steps("decision"))

_WAYS = f"a black hole, half-open, reset or {DELAY_SECONDS:g} s slow for {SECONDS:g} s, in turn"
_TIMES = Times(alone=4, mixed=0, short=2)

POSTGRES = Fault(
    name="network-postgres",
    injected=f"the network to PostgreSQL {_WAYS}",
    inject=_postgres.inject,
    times=_TIMES,
    bars=(Bar(measure=GOES_ON, at_most=15.0),),
    prepare=_postgres.prepare,
)
KAFKA = Fault(
    name="network-kafka",
    injected=f"the network to Kafka {_WAYS}",
    inject=_to_kafka.inject,
    times=_TIMES,
    bars=(Bar(measure=READS_ON, at_most=30.0),),
    prepare=_to_kafka.prepare,
)
AGENTS = Fault(
    name="network-agents",
    injected=f"the network to the agents {_WAYS}",
    inject=_agents.inject,
    times=_TIMES,
    bars=(Bar(measure=GOES_ON, at_most=15.0),),
    prepare=_agents.prepare,
)
MODEL = Fault(
    name="network-model",
    injected=f"the network to the model {_WAYS}",
    inject=_model.inject,
    times=_TIMES,
    bars=(Bar(measure=GOES_ON, at_most=15.0),),
    workers={"ORCHESTRATOR_MODEL_TIMEOUT_SECONDS": "10"},
    prepare=_model.prepare,
)
REPLIES = Fault(
    name="replies-lost",
    injected="PostgreSQL's answers cut off after a random number of bytes, on each connection",
    inject=_replies.lose_replies,
    times=Times(alone=50, mixed=0, short=2),
    pause_seconds=(0.3, 0.8),
    prepare=_replies.prepare,
)
