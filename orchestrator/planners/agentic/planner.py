"""The planner that asks a chat model: one snapshot, one request, one turn.

It keeps nothing between turns but the tools of each tenant's agents, so any worker can go on with
any task.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from orchestrator.agents.agent import Catalogue
from orchestrator.domain.agent import Agent
from orchestrator.domain.budget import MICROS
from orchestrator.domain.decision import Turn
from orchestrator.domain.errors import ModelFailed
from orchestrator.domain.ids import Seq
from orchestrator.domain.json import dumped
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.step import Decided
from orchestrator.planners.agentic.options import AgenticOptions
from orchestrator.planners.agentic.prompt import SYSTEM, state_text, task_text
from orchestrator.planners.agentic.tools import Toolbox, build_toolbox
from orchestrator.planners.agentic.transcript import history
from orchestrator.planners.agentic.turns import (
    is_after_text,
    limit_repairs,
    read_turn,
    told_why,
)
from orchestrator.planners.chat.answer import (
    read_answer,
    read_model,
    read_usage,
    why_unfinished,
)
from orchestrator.planners.chat.given_back import Bound, GivenBack
from orchestrator.planners.chat.kept import keep, size_of
from orchestrator.planners.chat.model import Endpoint, ask, bind, can_bound
from orchestrator.planners.chat.options import ModelOptions
from orchestrator.planners.chat.reserve import TEXT_OUTPUT_TOKENS, Reserved, reserve
from orchestrator.planners.planner import PromptMessage, PromptShown, Unanswered
from orchestrator.telemetry import metrics
from orchestrator.telemetry.logs import get_logger

log = get_logger(__name__)

MAX_TENANTS = 256
"""Whose tools are kept; the oldest are built again when they are needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Equipped:
    """A model with the tools of these agents."""

    agents: tuple[Agent, ...]
    toolbox: Toolbox
    bound: Bound


class AgenticPlanner:
    """`planners.planner.Planner` on a LangChain chat model; safe to share between tasks."""

    def __init__(
        self,
        model: BaseChatModel,
        *,
        catalogue: Catalogue,
        model_options: ModelOptions,
        options: AgenticOptions | None = None,
        on_turn: Callable[[PromptShown], None] | None = None,
    ) -> None:
        self._model = model
        self._catalogue = catalogue
        self._model_options = model_options
        self._endpoint = Endpoint(model_options)
        self._can_bound = can_bound(model)
        self._options = options or AgenticOptions()
        self._on_turn = on_turn
        self._equipped: dict[str, _Equipped] = {}
        self._given_back = GivenBack()

    async def plan(self, snapshot: Snapshot) -> Turn:
        agents = await self._catalogue.agents(snapshot.task.tenant)
        equipped = self._equip(snapshot.task.tenant, agents)
        messages = self._prompt(snapshot)
        reserved = self._reserve(snapshot, messages, equipped.toolbox)
        started = time.monotonic()
        answer = await self._ask(equipped.bound, messages, reserved)
        duration_ms = round((time.monotonic() - started) * 1000)
        turn = replace(
            self._read(answer, snapshot=snapshot, toolbox=equipped.toolbox),
            model=read_model(answer, asked=self._model_options.name),
            usage=(usage := read_usage(answer)),
            cost_micros=self._model_options.cost(usage),
            duration_ms=duration_ms,
        )
        self._count(turn)
        if self._on_turn is not None:
            self._on_turn(_shown(snapshot, messages, equipped.toolbox, turn))
        return turn

    async def _ask(
        self, bound: Bound, messages: list[BaseMessage], reserved: Reserved
    ) -> AIMessage:
        options = self._model_options
        error_type, started = "", time.monotonic()
        try:
            return await ask(bound, messages, options=options, reserved=reserved)
        except ModelFailed as error:
            error_type = "retryable" if error.retryable else "permanent"
            if isinstance(error, Unanswered):
                self._count_cost(error.cost_micros)
            raise
        finally:
            metrics.MODEL_SECONDS.labels(
                "chat", options.name, options.provider, error_type
            ).observe(time.monotonic() - started)

    def _reserve(
        self, snapshot: Snapshot, messages: list[BaseMessage], toolbox: Toolbox
    ) -> Reserved:
        reserved = reserve(
            snapshot,
            prompt_bytes=toolbox.size + sum(map(_size, messages)),
            options=self._model_options,
            can_bound=self._can_bound,
        )
        if not (self._can_bound and is_after_text(snapshot.current_run)):
            return reserved
        bounds = (reserved.max_output_tokens, self._model_options.max_output_tokens)
        most = min(bound for bound in (TEXT_OUTPUT_TOKENS, *bounds) if bound is not None)
        return replace(reserved, max_output_tokens=most)

    def _count(self, turn: Turn) -> None:
        options, usage = self._model_options, turn.usage
        self._count_cost(turn.cost_micros)
        for kind, tokens in (("input", usage.input_tokens), ("output", usage.output_tokens)):
            metrics.TOKEN_USAGE.labels(kind, options.name, options.provider).observe(tokens)

    def _count_cost(self, cost_micros: int) -> None:
        options = self._model_options
        metrics.MODEL_COST.labels(options.name, options.provider).inc(cost_micros / MICROS)

    def _prompt(self, snapshot: Snapshot) -> list[BaseMessage]:
        return [
            SystemMessage(content=SYSTEM),
            HumanMessage(content=task_text(snapshot)),
            *history(snapshot.steps, options=self._options, sender=self._model_options.sender),
            HumanMessage(content=state_text(snapshot.context)),
        ]

    def _read(self, answer: AIMessage, *, snapshot: Snapshot, toolbox: Toolbox) -> Turn:
        message = read_answer(answer, seq=Seq(snapshot.seq + 1), taken=_ids(snapshot))
        message = keep(message, answer, by=self._model_options.sender)
        if message.kept is not None and message.kept.cut:
            log.warning("a part of the model's answer is not kept", parts=message.kept.cut)
        turn = read_turn(message, toolbox=toolbox, snapshot=snapshot, options=self._options)
        why = why_unfinished(answer)
        turn = limit_repairs(turn, steps=snapshot.current_run, options=self._options, why=why)
        return told_why(turn, why) if why else turn

    def _equip(self, tenant: str, agents: tuple[Agent, ...]) -> _Equipped:
        known = self._equipped.get(tenant)
        if known is not None and known.agents == agents:
            return known
        toolbox = build_toolbox(agents, max_agent_tools=self._options.max_agent_tools)
        bound = bind(
            self._model,
            toolbox.definitions,
            options=self._model_options,
            endpoint=self._endpoint,
        )
        if known is None and len(self._equipped) >= MAX_TENANTS:
            self._equipped.pop(next(iter(self._equipped)))
        bound = partial(self._given_back.ask, bound)
        self._equipped[tenant] = _Equipped(agents=agents, toolbox=toolbox, bound=bound)
        return self._equipped[tenant]


def _shown(
    snapshot: Snapshot, messages: list[BaseMessage], toolbox: Toolbox, turn: Turn
) -> PromptShown:
    return PromptShown(
        task_id=snapshot.task.task_id,
        step=Seq(snapshot.seq + 1),
        messages=tuple(_shown_message(message) for message in messages),
        tools=toolbox.names,
        turn=turn,
    )


def _ids(snapshot: Snapshot) -> set[str]:
    """Of all tool calls of the task so far."""
    return {
        str(call["id"])
        for step in snapshot.steps
        if isinstance(step.body, Decided) and step.body.message is not None
        for call in step.body.message.tool_calls
    }


def _size(message: BaseMessage) -> int:
    """Bytes of what the model reads of it, roughly."""
    text = len(message.text.encode())
    if isinstance(message, AIMessage):
        text += sum(len(dumped(call["args"])) for call in message.tool_calls) + size_of(message)
    return text


def _shown_message(message: BaseMessage) -> PromptMessage:
    calls = message.tool_calls if isinstance(message, AIMessage) else []
    return PromptMessage(
        role=message.type,
        text=message.text,
        tool_calls=tuple(
            {"id": call["id"], "name": call["name"], "args": call["args"]} for call in calls
        ),
    )
