"""What the model is offered."""

import re

from orchestrator.domain.ids import AgentId
from orchestrator.domain.json import JsonObject
from orchestrator.planners.agentic.tools import (
    BUILT_IN,
    Toolbox,
    build_toolbox,
    describe,
    list_agents,
    tool_name,
)
from tests.unit.planners.journal import ACCOUNTS, AGENTS, CRM, make_agent


def functions(toolbox: Toolbox) -> dict[str, JsonObject]:
    found: dict[str, JsonObject] = {}
    for definition in toolbox.definitions:
        function = definition["function"]
        assert isinstance(function, dict)
        found[str(function["name"])] = function
    return found


def test_few_agents_have_a_tool_each_with_their_own_input_schema() -> None:
    offered = functions(build_toolbox((CRM, ACCOUNTS), max_agent_tools=2))
    assert list(offered) == [*BUILT_IN, "agent_accounts", "agent_crm"]
    assert offered["agent_crm"]["parameters"] == CRM.input_schema


def test_many_agents_share_one_tool() -> None:
    toolbox = build_toolbox(AGENTS, max_agent_tools=3)
    assert set(functions(toolbox)) == {*BUILT_IN, "call_agent"}
    assert toolbox.by_tool == {}


def test_the_same_agents_give_the_same_tools_in_whatever_order_they_come() -> None:
    one = build_toolbox(AGENTS, max_agent_tools=12)
    other = build_toolbox(AGENTS[::-1], max_agent_tools=12)
    assert one.definitions == other.definitions


def test_a_description_ends_with_the_fields_that_the_agent_adds() -> None:
    assert describe(CRM) == "CRM: Registers customers. Can: customer.create. Adds: customer_id."


def test_a_long_description_is_cut_before_its_fields() -> None:
    text = describe(make_agent("a", description="x" * 5000, adds=("field",)))
    assert len(text) == 1024
    assert text.endswith("… Adds: field.")


def test_tool_names_are_valid_and_differ_where_ids_differ() -> None:
    ids = ["crm", "crm.v2", "crm_v2", "crm v2", "ü", "x" * 100, "x" * 101, "complete"]
    names = [tool_name(AgentId(agent_id)) for agent_id in ids]
    assert len(set(names)) == len(ids)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in names)
    assert not set(names) & set(BUILT_IN)


def test_what_openai_refuses_at_the_top_of_a_schema_is_not_offered() -> None:
    agent = make_agent("a")
    agent.input_schema.update({"$schema": "x", "anyOf": [{"required": ["a"]}], "type": "object"})
    offered = functions(build_toolbox((agent,), max_agent_tools=12))["agent_a"]
    assert offered["parameters"] == {"type": "object", "required": [], "properties": {}}


def test_agents_are_listed_by_capability() -> None:
    toolbox = build_toolbox(AGENTS, max_agent_tools=1)
    listed = list_agents(toolbox, capability="customer", max_characters=10_000)
    assert '"id":"crm"' in listed
    assert '"id":"accounts"' not in listed


def test_a_list_that_does_not_fit_says_how_many_are_left_out() -> None:
    toolbox = build_toolbox(AGENTS, max_agent_tools=1)
    listed = list_agents(toolbox, capability="", max_characters=300)
    assert listed.endswith("\n3 more: ask for a capability.")
