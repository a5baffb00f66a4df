"""What has to hold after every fault, however tasks and faults met."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta

from orchestrator.store.database import Database, DatabaseOptions
from orchestrator.store.invariants import check
from tests.fakes.llm import Prompt
from tests.fakes.observer import Observer, Update

GAPS = """
SELECT t.task_id FROM tasks t LEFT JOIN steps s ON s.task = t.id GROUP BY t.id
HAVING count(s.seq) <> t.seq OR min(s.seq) <> 1 OR max(s.seq) <> t.seq
"""

FALLS = """
SELECT task, seq FROM (
    SELECT task, seq, epoch < lag(epoch) OVER (PARTITION BY task ORDER BY seq) AS falls FROM steps
) x WHERE falls
"""

FORGOTTEN = "SELECT task_id, status, owner FROM tasks WHERE status = 'running' OR owner IS NOT NULL"

RESULTS = """
SELECT task_id || '/' || (body->>'step') || '/' || (body->>'call') AS key FROM task_steps
WHERE kind = 'result' AND body->>'status' = 'success'
"""

DECISIONS = "SELECT task_id, at FROM task_steps WHERE kind = 'decision' ORDER BY task_id, seq"

POSITIONS = """
SELECT (SELECT sum(next_offset) FROM kafka_positions WHERE topic = $1) AS read,
       (SELECT count(*) FROM inbox WHERE source LIKE $1 || '/%') AS stored
"""


async def check_all(
    observer: Observer,
    *,
    prompts: Sequence[Prompt],
    effects: Mapping[str, int],
    epochs: Mapping[str, Sequence[str]],
) -> None:
    """After the last task has ended and its end was told."""
    await check_journals(observer)
    await check_effects(observer, effects)
    check_epochs(epochs)
    await check_prompts(observer, prompts)
    await check_updates(observer)


async def check_journals(observer: Observer) -> None:
    """Steps from 1 without gaps, epochs that never fall, and nobody owns what has ended."""
    assert await observer.rows(GAPS) == []
    assert await observer.rows(FALLS) == []
    assert await observer.rows(FORGOTTEN) == []


async def check_live(database_url: str) -> None:
    """What `orchestrator invariants --deep` asks of a system that runs."""
    database = Database(DatabaseOptions(url=database_url, pool_size=1))
    await database.open()
    try:
        found = await check(database, lease=timedelta(seconds=10), max_claims=5, is_deep=True)
    finally:
        await database.close()
    assert {f.invariant.name: f.examples for f in found if f.violations} == {}


async def check_effects(observer: Observer, effects: Mapping[str, int]) -> None:
    """Every journaled result has had its effect, once; nothing else has had any."""
    keys = {row["key"] for row in await observer.rows(RESULTS)}
    assert dict(effects) == dict.fromkeys(keys, 1)


def check_epochs(epochs: Mapping[str, Sequence[str]]) -> None:
    """An agent never hears of an older owner after a newer one."""
    for key, seen in epochs.items():
        order = [int(epoch) for epoch in seen]
        assert order == sorted(order), f"{key}: {order}"


async def check_prompts(observer: Observer, prompts: Iterable[Prompt]) -> None:
    """A turn may be asked for again only while its decision is not journaled."""
    decided: dict[str, list[float]] = {}
    for row in await observer.rows(DECISIONS):
        decided.setdefault(row["task_id"], []).append(row["at"].timestamp())
    for prompt in prompts:
        times = decided.get(prompt.task_id, [])
        if prompt.turn < len(times):
            late = prompt.at - times[prompt.turn]
            assert late <= 0, f"{prompt.task_id}: turn {prompt.turn} asked {late} s too late"


async def check_updates(observer: Observer) -> None:
    """Each step is told, and each task's in the order of its steps, repetitions aside."""
    rows = await observer.rows("SELECT task_id, seq FROM tasks")
    for row in rows:
        told = first_of_each(observer.updates[row["task_id"]])
        seqs = [update.seq for update in told]
        assert seqs == list(range(1, row["seq"] + 1)), f"{row['task_id']}: {seqs}"


def first_of_each(updates: Iterable[Update]) -> list[Update]:
    """Without repetitions, in the order in which each came first."""
    found: dict[str, Update] = {}
    for update in updates:
        found.setdefault(update.id, update)
    return list(found.values())


async def check_positions(observer: Observer) -> None:
    """What was read is stored: every message of these tests makes one row of the inbox."""
    for topic in (observer.topics.tasks, observer.topics.events):
        (row,) = await observer.rows(POSITIONS, topic)
        assert (row["read"] or 0) == row["stored"], topic


def total(*counters: Mapping[str, int]) -> Counter[str]:
    """What several agents counted."""
    return sum((Counter(counter) for counter in counters), Counter())
