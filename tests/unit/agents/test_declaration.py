"""Declarations: what is read, what is refused, and in which words."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.agents.declaration import dump, dump_yaml, load_file, load_folder, parse
from orchestrator.agents.variables import DeclarationVariables
from orchestrator.domain.agent import Limits
from orchestrator.domain.compensation import Compensation
from orchestrator.domain.errors import InvalidAgent
from orchestrator.domain.ids import AgentId

NO_VARIABLES = DeclarationVariables()

MINIMAL: dict[str, Any] = {
    "id": "crm",
    "name": "CRM",
    "description": "Creates customers.",
    "endpoint": "http://crm.internal:8080",
}

FULL = """
id: crm
name: CRM
description: Creates customers, and finds them by name or id. Needs a country for new ones.
role: processor
protocol: http
endpoint: http://crm.internal:8080/
capabilities: [customer.create, customer.find]
type: processor
input_schema: {type: object, required: [name], properties: {name: {type: string}}}
output_schema: {type: object, properties: {customer_id: {type: string}}}
limits: {concurrency: 20, rate_per_second: 50, timeout_seconds: 30}
effects: at_most_once
status_url: http://crm.internal:8080/calls/{key}
cancel_url: http://crm.internal:8080/calls/{key}/cancel
compensation: {agent: crm-undo, input: {id: $output.customer_id}}
secret_env: CRM_SIGNING_SECRET
config: {region: eu}
tenant: acme
"""


def refused(document: object, *, variables: DeclarationVariables | None = None) -> str:
    with pytest.raises(InvalidAgent) as caught:
        parse(document, source="crm.yaml", variables=variables)
    return str(caught.value)


def allowing(*names: str, **environ: str) -> DeclarationVariables:
    return DeclarationVariables(environ=environ, allowed=names)


def written(folder: Path, name: str, document: object) -> Path:
    file = folder / name
    file.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return file


def test_every_field_of_the_design_is_read(tmp_path: Path) -> None:
    agent = load_file(written(tmp_path, "crm.yaml", FULL), NO_VARIABLES)
    assert (agent.id, agent.endpoint) == ("crm", "http://crm.internal:8080")
    assert agent.limits == Limits(concurrency=20, rate_per_second=50.0, timeout_seconds=30.0)
    assert agent.capabilities == ("customer.create", "customer.find")
    assert agent.compensation == Compensation(
        agent=AgentId("crm-undo"), input={"id": "$output.customer_id"}
    )
    assert agent.cancel_url == "http://crm.internal:8080/calls/{key}/cancel"
    assert (agent.status_url, agent.secret_env, agent.tenant) == (
        "http://crm.internal:8080/calls/{key}",
        "CRM_SIGNING_SECRET",
        "acme",
    )
    assert agent.output_fields == ("customer_id",)


def test_four_fields_are_enough() -> None:
    agent = parse(MINIMAL, source="crm.yaml")
    assert (agent.protocol, agent.effects, agent.limits) == ("http", "idempotent", Limits())


def test_what_is_dumped_reads_back_as_equal(tmp_path: Path) -> None:
    agent = load_file(written(tmp_path, "crm.yaml", FULL), NO_VARIABLES)
    assert parse(dump(agent), source="dump") == agent
    assert load_file(written(tmp_path, "again.yaml", dump_yaml(agent)), NO_VARIABLES) == agent


def test_json_is_read_too(tmp_path: Path) -> None:
    text = '{"id": "crm", "name": "CRM", "description": "x", "endpoint": "https://crm"}'
    assert load_file(written(tmp_path, "crm.json", text), NO_VARIABLES).endpoint == "https://crm"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"id": "CRM"}, "id: expected 1 to 48 characters of a-z, 0-9 and '-'"),
        ({"id": "-crm"}, "got '-crm'"),
        ({"id": "c" * 49}, "id: expected"),
        ({"id": 7}, "the first one not '-'; got 7"),
        ({"name": ""}, "name: expected a text that is not empty; got ''"),
        ({"protocol": "a2a"}, "protocol: 'a2a' is not supported yet; supported: http"),
        ({"endpoint": "crm:8080"}, "endpoint: expected an http:// or https:// URL with a host"),
        ({"endpoint": "http://"}, "endpoint: expected an http:// or https:// URL with a host"),
        ({"endpoint": "http://a b"}, "endpoint: expected an http:// or https:// URL with a host"),
        ({"endpoint": "http://crm..local"}, "endpoint: has a host that is no name ("),
        ({"endpoint": f"http://{'c' * 64}"}, "endpoint: has a host that is no name ("),
        ({"endpoint": "http://crm:port"}, "endpoint: expected an http:// or https:// URL: "),
        ({"endpoint": 5}, "endpoint: expected an http:// or https:// URL"),
        ({"endpoint": "http://crm/?x=1"}, "endpoint: must not have a query"),
        ({"endpoint": "http://crm/#x"}, "endpoint: must not have a fragment"),
        ({"type": "output-ish"}, "type: expected input, processor or output; got 'output-ish'"),
        ({"capabilities": "x"}, "capabilities: expected a list of texts"),
        ({"capabilities": [1]}, "capabilities[0]: expected a list of texts"),
        ({"limits": {"concurrency": 0}}, "limits.concurrency: expected a whole number greater"),
        ({"limits": {"concurrency": "9"}}, "limits.concurrency: expected a whole number greater"),
        ({"limits": {"timeout_seconds": -1}}, "limits.timeout_seconds: expected a number of s"),
        ({"limits": {"rate_per_second": 0}}, "limits.rate_per_second: expected a number greater"),
        ({"limits": {"rate_per_second": 1e-12}}, "limits.rate_per_second: expected a number great"),
        ({"limits": {"timeout_seconds": 1e12}}, "seconds greater than 0, 10 million at most; got"),
        ({"limits": {"timeout": 1}}, "limits.timeout: is not a field of an agent's declaration"),
        ({"limits": {"timeout": 1}}, "did you mean timeout_seconds?"),
        ({"end_point": "x"}, "end_point: is not a field of an agent's declaration; did you mean"),
        ({"xyz": "x"}, "xyz: is not a field of an agent's declaration; known are id, name, desc"),
        ({"effects": "once"}, "effects: expected idempotent or at_most_once; got 'once'"),
        ({"effects": "at_most_once"}, "status_url: is missing"),
        ({"compensation": "undo"}, "compensation: expected an object with agent and input"),
        ({"compensation": {"agent": "Undo!"}}, "compensation.agent: expected the id of the agent"),
        ({"compensation": {"agent": "crm"}}, "compensation.agent: is the agent itself"),
        (
            {"compensation": {"agent": "undo", "input": {"id": "$customer_id"}}},
            "$customer_id quotes nothing; expected $input.… or $output.…",
        ),
        (
            {
                "compensation": {"agent": "undo", "input": {"ids": ["$output.id"]}},
                "output_schema": {"type": "object", "properties": {"customer_id": {}}},
            },
            "$output.id is not in output_schema; there are customer_id",
        ),
        ({"input_schema": {"type": 5}}, "input_schema: is not a valid JSON Schema: type: 5"),
        ({"input_schema": []}, "input_schema: expected a JSON Schema object; got []"),
        ({"output_schema": {"type": "array"}}, "output_schema.type: expected 'object'"),
        ({"output_schema": {"$ref": "http://127.0.0.1:1/x"}}, "output_schema: is not a valid"),
        ({"config": None}, "config: expected an object; got None"),
    ],
)
def test_a_wrong_field_is_named_with_what_is_expected(change: dict[str, Any], problem: str) -> None:
    assert problem in refused({**MINIMAL, **change})


def test_all_problems_are_told_at_once() -> None:
    text = refused({"id": "CRM", "limits": {"concurrency": 0}})
    assert len(text.splitlines()) == 5
    assert "crm.yaml: endpoint: is missing; expected an http:// or https:// URL" in text


@pytest.mark.parametrize("document", [None, [], "text", 5])
def test_a_document_that_is_no_object_is_refused(document: object) -> None:
    assert "expected the fields of one agent" in refused(document)


def test_a_secret_in_the_wrong_place_is_not_repeated() -> None:
    for change in (
        {"secret_env": "whsec_abcdef"},
        {"secret_env": "whsec_MfKQ9r8/abcdef="},
        {"endpoint": "http://user:abcdef@crm"},
        {"secret": "abcdef"},
    ):
        assert "abcdef" not in refused({**MINIMAL, **change})


def test_variables_fill_the_urls() -> None:
    document = {
        **MINIMAL,
        "endpoint": "${AGENTS:-http://127.0.0.1:8101}/crm",
        "status_url": "${AGENTS:-http://127.0.0.1:8101}/crm/status",
    }
    agents = allowing("AGENTS", AGENTS="http://agents:8101/")
    local = parse(document, source="crm.yaml", variables=allowing("AGENTS"))
    composed = parse(document, source="crm.yaml", variables=agents)
    assert local.endpoint == "http://127.0.0.1:8101/crm"
    assert local.status_url == "http://127.0.0.1:8101/crm/status"
    assert composed.endpoint == "http://agents:8101/crm"


def test_a_missing_variable_is_named() -> None:
    text = refused({**MINIMAL, "endpoint": "${CRM_URL}"}, variables=allowing("CRM_*"))
    assert "endpoint: uses ${CRM_URL}, but the variable CRM_URL is not set" in text


@pytest.mark.parametrize("field", ["endpoint", "status_url", "cancel_url"])
def test_a_variable_that_is_not_allowed_is_refused_by_name(field: str) -> None:
    variables = allowing("AGENTS_URL", "CRM_*", HOME_URL="http://canary")
    for text in ("${HOME_URL}", "http://crm/${HOME_URL}", "${HOME_URL:-http://crm}"):
        said = refused({**MINIMAL, field: text}, variables=variables)
        assert f"{field}: uses ${{HOME_URL}}, but ORCHESTRATOR_DECLARATION_VARIABLES" in said
        assert "canary" not in said


@pytest.mark.parametrize("field", ["endpoint", "status_url", "cancel_url"])
def test_what_is_stored_is_literal(field: str) -> None:
    for text in ("http://${DEMO_AGENTS_URL}", "http://crm/${DEMO_AGENTS_URL:-x}", "http://crm/${-"):
        said = refused({**MINIMAL, field: text})
        assert f"{field}: holds ${{" in said
        assert "which is not filled in" in said


def test_a_value_is_not_filled_in_a_second_time() -> None:
    variables = allowing("A_*", A_URL="http://a/${A_KEY}", A_KEY="canary")
    said = refused({**MINIMAL, "endpoint": "${A_URL}"}, variables=variables)
    assert "endpoint: holds ${A_KEY}, which is not filled in" in said
    assert "canary" not in said


@pytest.mark.parametrize(
    ("text", "problem"),
    [("id: [", "is not valid YAML"), ("id: crm\nname: !!python/object:os.x {}", "not valid YAML")],
)
def test_a_broken_file_is_named(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(InvalidAgent, match=f"crm.yaml: .*{problem}"):
        load_file(written(tmp_path, "crm.yaml", text), NO_VARIABLES)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidAgent, match=r"none\.yaml: can't be read: No such file"):
        load_file(tmp_path / "none.yaml", NO_VARIABLES)


def test_a_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "crm.yaml").write_bytes(b"name: \xff")
    with pytest.raises(InvalidAgent, match=r"crm\.yaml: is not UTF-8"):
        load_file(tmp_path / "crm.yaml", NO_VARIABLES)


def test_a_folder_gives_its_agents_by_file_name(tmp_path: Path) -> None:
    written(tmp_path, "b.yml", {**MINIMAL, "id": "b"})
    written(tmp_path, "a.yaml", {**MINIMAL, "id": "a"})
    written(tmp_path, "README.md", "no agent")
    assert [agent.id for agent in load_folder(tmp_path, NO_VARIABLES)] == ["a", "b"]


def test_a_folder_tells_of_every_wrong_file(tmp_path: Path) -> None:
    written(tmp_path, "a.yaml", {**MINIMAL, "name": ""})
    written(tmp_path, "b.yaml", MINIMAL)
    written(tmp_path, "c.yaml", MINIMAL)
    with pytest.raises(InvalidAgent) as caught:
        load_folder(tmp_path, NO_VARIABLES)
    first, second = str(caught.value).splitlines()
    assert first.startswith("a.yaml: name: ")
    assert second == "c.yaml: id: 'crm' is declared in b.yaml too; give one of the two another id"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidAgent, match="expected a folder with agent declarations"):
        load_folder(tmp_path / "none", NO_VARIABLES)
