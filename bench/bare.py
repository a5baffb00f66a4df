"""The loop that keeps nothing: what the durable service is compared with, in a process of its own.

    python -m bench.bare lean|stock STUB_URL

It asks the model and calls the agents with the same prompts, tools, clients and calls as the
product; it holds each conversation in memory, and does no more: no Kafka, no PostgreSQL, no limits,
no repairs. `stock` asks as LangChain documents it: `ChatOpenAI` with its default client, by
`ainvoke`. Reads rounds as JSON lines on standard input and ends with it.
"""

import asyncio
import os
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import orjson
import uvloop
from langchain_core.messages import (
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolCall,
    ToolMessage,
)
from langchain_openai import ChatOpenAI

from bench.workload import (
    AGENTS_FOLDER,
    CONCURRENCY,
    EVENT_DATA,
    MODEL,
    STUB_VARIABLE,
    description,
    task_id,
)
from orchestrator.agents.declaration import load_folder
from orchestrator.agents.http import AgentHttpClient, agent_http_client, model_http_client
from orchestrator.agents.variables import DeclarationVariables
from orchestrator.domain.agent import Agent
from orchestrator.domain.context import Context
from orchestrator.domain.ids import Epoch, TaskId, TaskKey
from orchestrator.domain.json import JsonObject
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.task import Task
from orchestrator.planners.agentic.options import AgenticOptions
from orchestrator.planners.agentic.prompt import SYSTEM, state_text, task_text
from orchestrator.planners.agentic.tools import build_toolbox
from orchestrator.planners.chat.given_back import Bound
from orchestrator.planners.chat.model import bind, build_model
from orchestrator.planners.chat.options import ModelOptions


class Loop:
    """Runs tasks from beginning to end; shared by all of them."""

    def __init__(
        self,
        bound: Bound,
        client: AgentHttpClient,
        agents: dict[str, Agent],
    ) -> None:
        self._bound = bound
        self._client = client
        self._agents = agents
        """By the name of their tools."""

    async def run(self, number: int) -> None:
        """One task."""
        context = Context(event_data=EVENT_DATA)
        conversation: list[BaseMessage] = [SystemMessage(content=SYSTEM), _task(number, context)]
        while True:
            state = HumanMessage(content=state_text(context))
            answer = await self._bound([*conversation, state])
            conversation.append(answer)
            for call in answer.tool_calls:
                if call["name"] == "complete":
                    return
                output = await self._call(number, len(conversation), call)
                context = context.apply({"collected_data": output})
                conversation.append(_told(call, output))

    async def _call(self, number: int, step: int, call: ToolCall) -> JsonObject:
        agent = self._agents[call["name"]]
        body = {"execution_id": task_id(number), "node_id": f"{step}/1", "input": call["args"]}
        async with self._client.exchange(
            "POST",
            f"{agent.endpoint}/execute",
            headers={
                "Content-Type": "application/json",
                "Idempotency-Key": f"{task_id(number)}/{step}/1",
            },
            content=orjson.dumps(body),
        ) as response:
            output: JsonObject = orjson.loads(await response.aread())["output"]
        return output


def _task(number: int, context: Context) -> BaseMessage:
    task = Task(
        key=TaskKey(number),
        task_id=TaskId(task_id(number)),
        description=description(number),
        created_at=datetime.now(UTC),
    )
    return HumanMessage(content=task_text(Snapshot(task=task, epoch=Epoch(1), context=context)))


def _told(call: ToolCall, output: JsonObject) -> BaseMessage:
    text = orjson.dumps({"status": "success", "output": output}).decode()
    return ToolMessage(content=text, tool_call_id=str(call["id"]))


async def _open(stack: AsyncExitStack, kind: str, stub_url: str) -> Loop:
    options = ModelOptions(model=MODEL, base_url=f"{stub_url}/v1", api_key="bench")
    variables = DeclarationVariables(environ={STUB_VARIABLE: stub_url}, allowed=(STUB_VARIABLE,))
    agents = load_folder(AGENTS_FOLDER, variables)
    toolbox = build_toolbox(agents, max_agent_tools=AgenticOptions().max_agent_tools)
    tools = list(toolbox.definitions)
    if kind == "stock":
        stock = ChatOpenAI(
            model=options.name, base_url=options.base_url, api_key="bench", max_retries=0
        )
        bound: Bound = stock.bind_tools(tools, tool_choice="any", parallel_tool_calls=True).ainvoke
    else:
        # Asked as the worker asks it, or what the worker spares there would hide what it costs.
        model_client = model_http_client(timeout_seconds=options.timeout_seconds)
        stack.push_async_callback(model_client.aclose)
        bound = bind(build_model(options, client=model_client), tools, options=options)
    client = await stack.enter_async_context(agent_http_client())
    return Loop(bound, client, dict(toolbox.by_tool))


async def _round(loop: Loop, numbers: Sequence[int]) -> JsonObject:
    """All of them, `CONCURRENCY` at a time."""
    waiting = iter(numbers)
    began, cpu = time.perf_counter(), time.process_time()

    async def work() -> None:
        for number in waiting:
            await loop.run(number)

    await asyncio.gather(*(work() for _ in range(CONCURRENCY)))
    return {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu}


async def _alone(loop: Loop, numbers: Iterable[int]) -> JsonObject:
    """One after the other: when each began, in nanoseconds of the wall clock."""
    began: JsonObject = {}
    for number in numbers:
        began[str(number)] = time.time_ns()
        await loop.run(number)
    return {"began": began}


async def main(kind: str, stub_url: str) -> None:
    async with AsyncExitStack() as stack:
        loop = await _open(stack, kind, stub_url)
        _say({"pid": os.getpid()})
        while line := await asyncio.to_thread(sys.stdin.readline):
            asked = orjson.loads(line)
            numbers = range(asked["first"], asked["first"] + asked["tasks"])
            _say(await (_alone if asked["alone"] else _round)(loop, numbers))


def _say(body: JsonObject) -> None:
    print(orjson.dumps(body).decode(), flush=True)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2]))
