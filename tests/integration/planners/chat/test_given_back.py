"""What an answer holds beyond text and calls, on the wire: the next request holds it again."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from langchain_openai import ChatOpenAI

from orchestrator.agents.http import model_http_client
from orchestrator.domain.errors import ModelFailed
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import Step, dump_body, load_body
from orchestrator.planners.agentic.planner import AgenticPlanner
from orchestrator.planners.chat.model import build_model
from orchestrator.planners.chat.options import ModelOptions
from tests.integration.planners import shapes
from tests.integration.planners.shapes import ARGS, SIGNATURE, THOUGHT, Json, call, chat
from tests.integration.planners.stub import Strict, Stub, closing, refused, serving
from tests.unit.planners.journal import AGENTS, FixedCatalogue, answered, decided, new_task


@asynccontextmanager
async def planning(
    stub: Stub, *, model: str = "openai:thinker", host: str = "127.0.0.1"
) -> AsyncIterator[AgenticPlanner]:
    url = stub.url.replace("127.0.0.1", host)
    options = ModelOptions(model=model, base_url=url, api_key="key", timeout_seconds=10)
    async with model_http_client(timeout_seconds=10) as client:
        yield AgenticPlanner(
            build_model(options, client=client),
            catalogue=FixedCatalogue(*AGENTS),
            model_options=options,
        )


async def turn(planner: AgenticPlanner, snapshot: Snapshot) -> Snapshot:
    """The task after one turn and its call, as it is read from a journal."""
    snapshot = decided(snapshot, await planner.plan(snapshot))
    return answered(reread(snapshot), 1, {"customer_id": "C-1"})


def reread(snapshot: Snapshot) -> Snapshot:
    steps = [again(step) for step in snapshot.steps]
    return replace(snapshot, steps=tuple(steps))


def again(step: Step) -> Step:
    return replace(step, body=load_body(step.body.kind, json.loads(dump_body(step.body))))


async def second_request(model: str, answer: Json) -> Json:
    async with serving(closing(200, answer)) as stub, planning(stub, model=model) as planner:
        await planner.plan(await turn(planner, new_task()))
        assert len(stub.bodies) == 2
        return stub.bodies[-1]


def own(body: Json) -> Json:
    """The assistant's message in a request."""
    (message,) = [m for m in body["messages"] if m["role"] == "assistant"]
    assert isinstance(message, dict)
    return message


OF_OPENAIS_PROTOCOL: list[tuple[str, Json]] = [
    ("gemini", chat(call("", extra_content=shapes.GOOGLE))),
    ("deepseek", chat(call(), content="", reasoning_content=THOUGHT)),
    ("kimi-empty-reasoning", chat(call(), reasoning_content="")),
    ("openrouter", chat(call(), reasoning=THOUGHT, reasoning_details=shapes.DETAILS)),
    ("mistral", chat(call("abcdefghi"), content=shapes.THINKING_CHUNKS)),
    ("a-gateway", chat(call(function={"provider_specific_fields": {"signature": SIGNATURE}}))),
]


@pytest.mark.parametrize(
    "answer", [a for _, a in OF_OPENAIS_PROTOCOL], ids=[name for name, _ in OF_OPENAIS_PROTOCOL]
)
async def test_a_field_that_openais_protocol_does_not_know_goes_back_as_it_came(
    answer: Json,
) -> None:
    message = own(await second_request("openai:thinker", answer))
    given = answer["choices"][0]["message"]
    (given_call,), (sent_call,) = given["tool_calls"], message["tool_calls"]
    for name in ("reasoning", "reasoning_content", "reasoning_details"):
        assert message.get(name) == given.get(name)
    assert sent_call.get("extra_content") == given_call.get("extra_content")
    told, sent = given_call["function"], sent_call["function"]
    assert sent.get("provider_specific_fields") == told.get("provider_specific_fields")
    assert message["content"] == (given["content"] or None)


async def test_each_call_gets_its_own_fields_back_also_beside_a_broken_one() -> None:
    answer = chat(
        call("a", arguments='{"name": ', extra_content={"n": 1}),
        call("b", extra_content={"n": 2}),
        call("c"),
    )
    sent = own(await second_request("openai:thinker", answer))["tool_calls"]
    assert {c["id"]: c.get("extra_content") for c in sent} == {
        "a": {"n": 1},
        "b": {"n": 2},
        "c": None,
    }


async def test_chat_deepseek_sends_back_the_reasoning_that_it_reads() -> None:
    body = await second_request("deepseek:deepseek-reasoner", chat(call(), reasoning_content="Hm."))
    assert own(body)["reasoning_content"] == "Hm."


async def test_chat_anthropic_sends_back_its_thinking_with_its_signature() -> None:
    body = await second_request("anthropic:claude-sonnet-4-5", shapes.ANTHROPIC)
    assert own(body)["content"] == shapes.ANTHROPIC_BLOCKS


@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession")
async def test_chat_google_sends_back_its_thoughts_and_signatures() -> None:
    body = await second_request("google_genai:gemini-3-pro-preview", shapes.GEMINI)
    (content,) = [c for c in body["contents"] if c["role"] == "model"]
    assert content["parts"] == shapes.GEMINI_PARTS


async def test_chat_openrouter_sends_back_its_reasoning_details() -> None:
    answer = chat(call(), reasoning=THOUGHT, reasoning_details=shapes.DETAILS)
    message = own(await second_request("openrouter:some/thinker", answer))
    assert (message["reasoning"], message["reasoning_details"]) == (THOUGHT, shapes.DETAILS)


@pytest.mark.parametrize(
    ("model", "answer"),
    [
        ("mistralai:magistral", chat(call("abcdefghi"), content=shapes.THINKING_CHUNKS)),
        ("ollama:qwen3", shapes.OLLAMA),
    ],
    ids=["mistralai", "ollama"],
)  # fmt: skip
async def test_clients_that_never_send_thoughts_back_send_the_call(
    model: str, answer: Json
) -> None:
    """Theirs are endpoints that do not ask for them: ChatMistralAI drops them beside calls,
    ChatOllama reads them only where it is told to."""
    (sent,) = own(await second_request(model, answer))["tool_calls"]
    arguments = sent["function"]["arguments"]
    assert (json.loads(arguments) if isinstance(arguments, str) else arguments) == ARGS


async def test_items_of_the_responses_api_go_back_in_their_order() -> None:
    async with (
        serving(closing(200, shapes.RESPONSES)) as stub,
        model_http_client(timeout_seconds=5) as client,
    ):
        model = ChatOpenAI(
            model="gpt-5",
            base_url=stub.url,
            api_key=lambda: "key",
            http_async_client=client,
            use_responses_api=True,
        )
        planner = AgenticPlanner(
            model, catalogue=FixedCatalogue(*AGENTS), model_options=ModelOptions()
        )
        await planner.plan(await turn(planner, new_task()))
    items = [i for i in stub.bodies[-1]["input"] if i.get("type") in ("reasoning", "function_call")]
    assert items == [shapes.REASONING_ITEM, shapes.FUNCTION_ITEM]


async def test_items_of_an_endpoint_that_is_asked_for_responses_go_back_too() -> None:
    async with serving(closing(200, shapes.RESPONSES)) as stub:
        stub.url += "/responses"
        async with planning(stub) as planner:
            await planner.plan(await turn(planner, new_task()))
    items = [i for i in stub.bodies[-1]["input"] if i.get("type") in ("reasoning", "function_call")]
    assert items == [shapes.REASONING_ITEM, shapes.FUNCTION_ITEM]


@pytest.mark.parametrize(
    ("model", "host"),
    [
        ("openai:another", "127.0.0.1"),
        ("deepseek:thinker", "127.0.0.1"),
        ("openai:thinker", "localhost"),
    ],
    ids=["model", "provider", "endpoint"],
)
async def test_another_model_provider_or_endpoint_is_not_sent_what_the_first_gave(
    model: str, host: str
) -> None:
    answer = chat(call(extra_content=shapes.GOOGLE), reasoning_content=THOUGHT)
    async with serving(closing(200, answer)) as stub:
        async with planning(stub) as planner:
            snapshot = await turn(planner, new_task())
        async with planning(stub, model=model, host=host) as planner:
            await planner.plan(snapshot)
    message = own(stub.bodies[-1])
    assert message.keys() == {"role", "content", "tool_calls"}
    assert message["tool_calls"][0].keys() == {"id", "type", "function"}


async def test_an_endpoint_that_refuses_its_own_field_is_sent_the_others_from_then_on() -> None:
    answer = chat(call(extra_content=shapes.GOOGLE), reasoning=THOUGHT)
    async with serving(Strict(answer, refuses="reasoning")) as stub, planning(stub) as planner:
        snapshot = await turn(planner, await turn(planner, new_task()))
        assert len(stub.bodies) == 3
        await planner.plan(snapshot)
    assert len(stub.bodies) == 4
    sent = [m for m in stub.bodies[-1]["messages"] if m["role"] == "assistant"]
    assert all("reasoning" not in m for m in sent)
    assert all(m["tool_calls"][0]["extra_content"] == shapes.GOOGLE for m in sent)


async def test_an_earlier_answer_without_reasoning_says_so_where_that_is_demanded() -> None:
    """As in a journal of an earlier release, or of another model."""
    demanding = Strict(chat(call(), reasoning_content=THOUGHT), demands="reasoning_content")
    async with serving(closing(200, chat(call()))) as stub, planning(stub) as planner:
        snapshot = await turn(planner, new_task())
        stub.answer = demanding
        snapshot = await turn(planner, snapshot)
        await planner.plan(snapshot)
    assert len(stub.bodies) == 4
    sent = [m for m in stub.bodies[-1]["messages"] if m["role"] == "assistant"]
    assert [m["reasoning_content"] for m in sent] == ["", THOUGHT]


async def test_a_refusal_that_has_nothing_to_do_with_it_is_told_as_it_is() -> None:
    answer = chat(call(), reasoning_content=THOUGHT)
    async with serving(closing(200, answer)) as stub, planning(stub) as planner:
        snapshot = await turn(planner, new_task())
        stub.answer = refused("tools[0].function.name is too long")
        with pytest.raises(ModelFailed, match="is too long") as failed:
            await planner.plan(snapshot)
    assert not failed.value.retryable
    assert [own(body).get("reasoning_content") for body in stub.bodies[1:]] == [THOUGHT, None]


def without_signatures(answer: Json) -> Callable[[Json], bytes]:
    """An endpoint that takes no signature, not even its own."""

    def answers(body: Json) -> bytes:
        earlier = [m for m in body.get("messages") or body["contents"] if m["role"] != "user"]
        if "ignature" in json.dumps(earlier):
            error = {"code": 400, "message": "it is not valid", "status": "INVALID_ARGUMENT"}
            return closing(400, {"error": error})
        return closing(200, answer)

    return answers


@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession")
@pytest.mark.parametrize(
    ("model", "answer"),
    [
        ("anthropic:claude-sonnet-4-5", shapes.ANTHROPIC),
        ("google_genai:gemini-3-pro-preview", shapes.GEMINI),
    ],
)
async def test_a_signature_that_is_refused_without_a_name_does_not_end_the_task(
    model: str, answer: Json
) -> None:
    async with serving(without_signatures(answer)) as stub, planning(stub, model=model) as planner:
        await planner.plan(await turn(planner, new_task()))
    assert len(stub.bodies) == 3
    assert "I register it." in json.dumps(stub.bodies[-1])


async def test_chat_openrouter_asks_once_and_waits_for_seconds() -> None:
    async with serving(closing(503, {"error": {"message": "busy", "code": 503}})) as stub:
        options = ModelOptions(model="openrouter:some/thinker", base_url=stub.url, api_key="key")
        async with model_http_client(timeout_seconds=5) as client:
            model: Any = build_model(options, client=client)
        assert model.request_timeout == 60_000
        async with planning(stub, model="openrouter:some/thinker") as planner:
            with pytest.raises(ModelFailed, match="503"):
                await planner.plan(new_task())
    assert len(stub.bodies) == 1
