from pathlib import Path

import pytest

from orchestrator.domain.budget import Budget
from orchestrator.domain.errors import InvalidSettings
from orchestrator.planners.chat.options import DIALECT
from orchestrator.settings import Need, Settings, examine_settings, load_settings
from orchestrator.settings.variables import FILE_SUFFIX, KNOWN, SECRETS, Variables

COMPLETE = {
    "DATABASE_URL": "postgresql://user:CANARY-1@db/orders",
    "KAFKA_BOOTSTRAP_SERVERS": "kafka:9092",
    "OPENAI_API_KEY": "sk-CANARY-2",
}


def load(environ: dict[str, str], *needs: Need, env_file: Path | None = None) -> Settings:
    return load_settings(environ, needs=needs or ("database", "kafka", "model"), env_file=env_file)


def problems(environ: dict[str, str], *needs: Need) -> list[str]:
    with pytest.raises(InvalidSettings) as caught:
        load(environ, *needs)
    return str(caught.value).splitlines()


def test_three_variables_are_enough() -> None:
    settings = load(COMPLETE)
    assert settings.database.url == "postgresql://user:CANARY-1@db/orders"
    assert settings.bus.bootstrap_servers == "kafka:9092"
    assert settings.model.api_key == "sk-CANARY-2"
    assert settings.health.port == 8080


def test_each_missing_variable_has_a_line_that_names_it() -> None:
    names = [line.partition(":")[0] for line in problems({})]
    assert names == ["DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS", "OPENAI_API_KEY"]


def test_a_ceiling_is_no_lower_than_its_limit_and_has_one() -> None:
    low = {"ORCHESTRATOR_CEILING_TOKENS": "5", "ORCHESTRATOR_CEILING_COST": "5"}
    assert problems({**COMPLETE, **low}) == [
        "ORCHESTRATOR_CEILING_TOKENS: is 5, below ORCHESTRATOR_MAX_TOKENS (200000); expected at "
        "least as much",
        "ORCHESTRATOR_CEILING_COST: is set, but ORCHESTRATOR_MAX_COST is not; set that too, for "
        "tasks without a budget",
    ]
    high = load({**COMPLETE, "ORCHESTRATOR_CEILING_STEPS": "101"}).engine.limits.ceilings
    assert high == Budget(steps=101)


def test_declarations_get_the_variables_that_are_no_settings_of_ours() -> None:
    given = {**COMPLETE, "CRM_URL": "http://crm", "DATABASE_URL_FILE": ""}
    found = load({**given, "ORCHESTRATOR_DECLARATION_VARIABLES": " CRM_URL , AGENT_*"}).declarations
    assert (found.allowed, dict(found.environ)) == (
        ("CRM_URL", "AGENT_*"),
        {"CRM_URL": "http://crm"},
    )
    assert "CANARY" not in repr(found)
    for wrong in ("*", "A B", "A,,B", "A-B"):
        (line,) = problems({**COMPLETE, "ORCHESTRATOR_DECLARATION_VARIABLES": wrong})
        assert "expected names of variables with commas between" in line


def test_a_command_asks_only_for_what_it_needs() -> None:
    settings = load({"DATABASE_URL": COMPLETE["DATABASE_URL"]}, "database")
    assert settings.database.pool_size == 8


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("PORT", "http", "PORT: expected a port from 1 to 65535, or 0 for any; got 'http'"),
        (
            "ORCHESTRATOR_MAX_STEPS",
            "0",
            "ORCHESTRATOR_MAX_STEPS: expected a whole number of at least 1; got '0'",
        ),
        ("LOG_LEVEL", "loud", "LOG_LEVEL: expected debug, info, warning or error; got 'loud'"),
        (
            "ORCHESTRATOR_MAX_STEP",
            "3",
            "ORCHESTRATOR_MAX_STEP: there is no such setting; did you mean ORCHESTRATOR_MAX_STEPS?",
        ),
        (
            "KAFKA_SECURITY_PROTOCOL",
            "TLS",
            "KAFKA_SECURITY_PROTOCOL: expected PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL; "
            "got 'TLS'",
        ),
        (
            "KAFKA_BOOTSTRAP_SERVERS",
            "kafka",
            "KAFKA_BOOTSTRAP_SERVERS: expected host:port of one or more brokers, "
            "such as kafka-1:9092,kafka-2:9092; got 'kafka'",
        ),
        (
            "LLM_MODEL",
            "gpt-4.1",
            "LLM_MODEL: expected provider:name, such as openai:gpt-4.1-mini; got 'gpt-4.1'",
        ),
        ("KAFKA_SSL_CAFILE", "/no/ca.pem", "KAFKA_SSL_CAFILE: there is no file '/no/ca.pem'"),
        (
            "OPENAI_BASE_URL",
            "http://models:99999/v1",
            "OPENAI_BASE_URL: expected a URL such as https://api.example.com/v1; "
            "Port out of range 0-65535",
        ),
        (
            "OPENAI_BASE_URL",
            "http://[::1/v1",
            "OPENAI_BASE_URL: expected a URL such as https://api.example.com/v1; Invalid IPv6 URL",
        ),
        (
            "ORCHESTRATOR_CREATE_TOPICS",
            "perhaps",
            "ORCHESTRATOR_CREATE_TOPICS: expected true or false; got 'perhaps'",
        ),
    ],
)
def test_a_wrong_value_is_told_in_one_line(name: str, value: str, expected: str) -> None:
    assert problems({**COMPLETE, name: value}) == [expected]


def test_every_problem_is_told_at_once() -> None:
    lines = problems({"PORT": "x", "ORCHESTRATOR_NO": "1", "LLM_MODEL": "other:model"})
    assert len(lines) == 4


@pytest.mark.parametrize(
    ("url", "taken"),
    [
        ("postgres://u:p@h/d", "postgresql://u:p@h/d"),
        ("postgresql+asyncpg://u@h:1/d", "postgresql://u@h:1/d"),
        ("postgresql://u@h/d?sslmode=require", "postgresql://u@h/d?sslmode=require"),
        (
            "postgresql://u@h/d?sslmode=verify-full&channel_binding=require&sslrootcert=/ca.pem",
            "postgresql://u@h/d?sslmode=verify-full&sslrootcert=/ca.pem",
        ),
        ("postgresql:///d?host=/run/postgresql", "postgresql:///d?host=/run/postgresql"),
        ("postgresql://a:1,b:2/d", "postgresql://a:1,b:2/d"),
    ],
)
def test_a_database_url_is_taken_as_tutorials_write_it(url: str, taken: str) -> None:
    assert load({"DATABASE_URL": url}, "database").database.url == taken


@pytest.mark.parametrize(
    "url",
    ["mysql://u:CANARY@h/d", "CANARY", "postgresql://u:CAN/ARY@h/d", "postgresql://u:CANARY@h"],
)
def test_a_wrong_database_url_is_told_without_its_password(url: str) -> None:
    (line,) = problems({"DATABASE_URL": url}, "database")
    assert line.startswith("DATABASE_URL: expected postgresql://user:password@host:5432/database")
    assert "CAN" not in line


def test_a_login_needs_a_name_and_a_password() -> None:
    lines = problems({**COMPLETE, "KAFKA_SECURITY_PROTOCOL": "sasl_ssl"})
    assert [line.partition(":")[0] for line in lines] == [
        "KAFKA_SASL_USERNAME",
        "KAFKA_SASL_PASSWORD",
    ]


@pytest.mark.parametrize(
    ("prices", "says"),
    [
        ("", "is missing; ORCHESTRATOR_MAX_COST is set, and needs what openai:gpt-4.1-mini costs"),
        (
            '{"openai:other": {"input": 1, "output": 2}}',
            "has no price of openai:gpt-4.1-mini; ORCHESTRATOR_MAX_COST is set, and needs it",
        ),
    ],
)
def test_a_budget_of_money_needs_the_models_price(prices: str, says: str) -> None:
    environ = {
        **COMPLETE,
        "ORCHESTRATOR_MAX_COST": "1",
        "ORCHESTRATOR_MODEL_PRICES": prices,
    }
    assert problems(environ) == [f"ORCHESTRATOR_MODEL_PRICES: {says}"]
    priced = '{"openai:gpt-4.1-mini": {"input": 1, "output": 2}}'
    assert load({**environ, "ORCHESTRATOR_MODEL_PRICES": priced}).model.price is not None


def test_a_password_without_a_login_is_told() -> None:
    (line,) = problems({**COMPLETE, "KAFKA_SASL_PASSWORD": "CANARY"})
    assert "set that to SASL_SSL" in line
    assert "CANARY" not in line


def test_a_name_that_is_nearly_right_is_pointed_at() -> None:
    (line,) = problems({**COMPLETE, "KAFKA_BOOTSTRAP_SERVERS": "", "KAFKA_BOOTSTRAP_SERVER": "a:1"})
    assert "KAFKA_BOOTSTRAP_SERVER is set" in line


def test_a_secret_may_be_in_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "key"
    secret.write_text("sk-from-file\n")
    environ = {**COMPLETE, "OPENAI_API_KEY": "", "OPENAI_API_KEY_FILE": str(secret)}
    assert load(environ).model.api_key == "sk-from-file"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
def test_line_breaks_at_the_ends_of_a_value_are_removed(end: str, tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text(f"postgresql://user:pw @db/orders{end}", newline="")
    environ = {name: f"{value}{end}" for name, value in COMPLETE.items()}
    environ |= {"DATABASE_URL": "", "DATABASE_URL_FILE": str(secret), "PORT": f"81{end}"}
    settings = load(environ)
    assert settings.model.api_key == "sk-CANARY-2"
    assert settings.database.url == "postgresql://user:pw @db/orders"
    assert (settings.bus.bootstrap_servers, settings.health.port) == ("kafka:9092", 81)


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("OPENAI_API_KEY", "sk-CAN\nARY", "character 7 is U+000A (a control character)"),
        ("OPENAI_API_KEY", "sk-CANARY ", "character 10 is U+0020 (space)"),
        ("OPENAI_API_KEY", "sk-CANARY\u200b", "character 10 is U+200B (zero width space)"),
        ("OPENAI_API_KEY", "“sk-CANARY”", "character 1 is U+201C (left double quotation mark)"),
        ("KAFKA_SASL_PASSWORD", "CAN\nARY", "character 4 is U+000A (a control character)"),
        ("DATABASE_URL", "postgresql://u:CAN\nARY@h/d", "character 19 is U+000A"),
        ("KAFKA_GROUP_ID", "CANARY\tb", "character 7 is U+0009 (a control character)"),
        ("ORCHESTRATOR_WORKER_NAME", "CANARY\u202e", "is U+202E (right-to-left override)"),
    ],
)
def test_a_character_that_can_not_be_sent_is_named_and_its_value_is_not(
    name: str, value: str, found: str
) -> None:
    login = {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_USERNAME": "me"}
    (line,) = problems({**COMPLETE, **login, "KAFKA_SASL_PASSWORD": "pw", name: value})
    assert line.startswith(f"{name}: expected ")
    assert found in line
    assert "CAN" not in line


def test_the_key_of_another_provider_is_refused_where_it_can_not_be_sent() -> None:
    environ = {**COMPLETE, "LLM_MODEL": "anthropic:claude", "ANTHROPIC_API_KEY": "sk-CANARY\n"}
    (line,) = problems(environ)
    assert line.startswith("ANTHROPIC_API_KEY: holds a character that can't be sent in a header")
    assert load({**environ, "LLM_MODEL": "openai:gpt-4.1"}).llm_model == "openai:gpt-4.1"


def test_a_dialect_is_switches_and_auto_is_none() -> None:
    for text, switches in {"auto": set(), " Auto , max-tokens ,responses": {"max-tokens"}}.items():
        settings = load({**COMPLETE, "ORCHESTRATOR_MODEL_DIALECT": text})
        assert settings.model.dialect - {"responses"} == switches


def test_a_dialect_that_is_not_known_is_told_with_those_that_are() -> None:
    (line,) = problems({**COMPLETE, "ORCHESTRATOR_MODEL_DIALECT": "merge-messages,max_tokens"})
    assert line.startswith(
        "ORCHESTRATOR_MODEL_DIALECT: expected auto, or one or more of merge-messages, "
    )
    assert line.endswith("with commas between; got 'merge-messages,max_tokens'")
    assert all(switch in line for switch in DIALECT)


def test_a_dialect_has_one_path() -> None:
    environ = {**COMPLETE, "ORCHESTRATOR_MODEL_DIALECT": "responses,chat-completions"}
    assert problems(environ) == [
        "ORCHESTRATOR_MODEL_DIALECT: has responses and chat-completions; keep one of the two"
    ]
    assert "model" not in examine_settings({**environ}, env_file=None).usable


@pytest.mark.parametrize("url", ["https://host/v1?code=CANARY#x", "host/v1?code=CANARY"])
def test_the_query_of_a_wrong_address_is_not_shown(url: str) -> None:
    (line,) = problems({**COMPLETE, "OPENAI_BASE_URL": url})
    assert line.startswith("OPENAI_BASE_URL: expected a URL such as")
    assert "CANARY" not in line


def test_a_secret_given_twice_is_an_error(tmp_path: Path) -> None:
    (line,) = problems({**COMPLETE, "DATABASE_URL_FILE": str(tmp_path / "url")})
    assert line == "DATABASE_URL: is set, and so is DATABASE_URL_FILE; keep one of the two"


def test_a_secret_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    environ = {**COMPLETE, "OPENAI_API_KEY": "", "OPENAI_API_KEY_FILE": "/no/key"}
    assert problems(environ)[0] == (
        "OPENAI_API_KEY_FILE: '/no/key' can't be read: No such file or directory"
    )


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("# comment\nPORT=1111\nLOG_LEVEL='debug'\n")
    settings = load({**COMPLETE, "PORT": "2222"}, env_file=file)
    assert (settings.health.port, settings.logs.level) == (2222, "debug")


def test_an_unknown_variable_in_the_file_is_an_error_too(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("ORCHESTRATOR_PARTITION=3\n")
    with pytest.raises(InvalidSettings, match="did you mean ORCHESTRATOR_PARTITIONS"):
        load(COMPLETE, env_file=file)


def test_no_setting_shows_a_secret() -> None:
    environ = COMPLETE | {
        "OPENAI_BASE_URL": "https://host/v1?code=CANARY-5",
        "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "KAFKA_SASL_USERNAME": "me",
        "KAFKA_SASL_PASSWORD": "CANARY-3",
        "KAFKA_SSL_KEY_PASSWORD": "CANARY-4",
    }
    settings = load(environ)
    shown = f"{settings!r} {settings.database!r} {settings.bus!r} {settings.model!r}"
    assert "CANARY" not in shown


def example_lines() -> dict[str, str]:
    text = (Path(__file__).parents[2] / ".env.example").read_text()
    pairs = (line.lstrip("# ").partition("=") for line in text.splitlines() if "=" in line)
    return {name: value for name, _, value in pairs if name.isupper() and " " not in name}


def test_the_example_names_every_variable_and_no_other() -> None:
    assert set(example_lines()) == set(KNOWN)


def test_the_example_shows_the_defaults() -> None:
    for name, text in example_lines().items():
        if name.removesuffix(FILE_SUFFIX) in SECRETS:
            continue
        default = Variables.model_fields[name.lower()].default
        if default is not None:
            parsed = Variables.model_validate({name: text})
            assert getattr(parsed, name.lower()) == default, name
