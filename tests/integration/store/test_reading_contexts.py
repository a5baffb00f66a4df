"""`context_at` adds changes up as Python does, whatever they are."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.domain.context import MERGED_FIELDS, apply_change
from orchestrator.domain.json import JsonObject
from orchestrator.store.database import Database

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)
leaves = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | text
values = st.recursive(
    leaves, lambda v: st.lists(v, max_size=2) | st.dictionaries(text, v, max_size=2), max_leaves=5
)
names = st.sampled_from([*MERGED_FIELDS, "current_state", "required_fields", "x"])
changes = st.lists(st.none() | st.dictionaries(names, values, max_size=4), min_size=1, max_size=6)


@given(changes=changes)
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_context_at_any_step_is_what_python_adds_up(
    database: Database, changes: list[JsonObject | None]
) -> None:
    await database.fetch("TRUNCATE tasks, steps")
    await database.fetch("INSERT INTO tasks (task_id, status) VALUES ('t', 'waiting')")
    await database.fetch(
        "INSERT INTO steps (task, seq, kind, body, change, epoch) "
        "SELECT (SELECT id FROM tasks), n, 'event', '{}', c, 0 "
        "FROM unnest($1::jsonb[]) WITH ORDINALITY u(c, n)",
        changes,
    )
    rows = await database.fetch("SELECT context_at('t', seq) AS c FROM steps ORDER BY seq")
    context: JsonObject = {}
    for row, change in zip(rows, changes, strict=True):
        context = apply_change(context, change)
        assert row["c"] == context
