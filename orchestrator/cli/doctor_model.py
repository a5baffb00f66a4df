"""The model, as `orchestrator doctor` looks at it: tokens are spent only with `--ask`."""

from orchestrator.agents.model_health import model_health
from orchestrator.app import ask_model, model_problem
from orchestrator.cli.finding import Finding
from orchestrator.domain.decision import Turn
from orchestrator.domain.errors import ModelFailed
from orchestrator.settings import Settings

OPENAI_URL = "https://api.openai.com/v1"
MAX_QUOTE = 200


async def model_finding(settings: Settings, *, may_ask: bool) -> Finding:
    options = settings.model
    problem = await model_problem(options)
    if problem is not None:
        advice = "a worker with these settings does not start"
        return Finding(name="model", state="failed", says=problem, advice=advice)
    if may_ask:
        return await _asked(settings)
    if options.provider != "openai":
        says = f"{options.model}: it can't be reached without spending tokens"
        advice = "`orchestrator doctor --ask` sends two requests"
        return Finding(name="model", state="skipped", says=says, advice=advice)
    return await _listed(settings)


async def _asked(settings: Settings) -> Finding:
    try:
        turn = await ask_model(settings.model)
    except ModelFailed as error:
        advice = "LLM_MODEL, OPENAI_API_KEY and OPENAI_BASE_URL say which model is asked and how"
        return Finding(name="model", state="failed", says=str(error), advice=advice)
    if turn.is_repair:
        advice = "choose a model and an endpoint that support tool calls"
        return Finding(name="model", state="failed", says=_without_tool(turn), advice=advice)
    spent = f"{turn.usage.input_tokens} + {turn.usage.output_tokens} tokens"
    took = f"two requests, {turn.duration_ms} ms, {spent}"
    says = f"{turn.model} answered with a tool call and accepted it in the next request ({took})"
    return Finding(name="model", state="ok", says=says)


def _without_tool(turn: Turn) -> str:
    """What was wrong with the answer, in the words that the model would be told."""
    errors = [reply.text for reply in turn.replies if reply.is_error]
    text = turn.message.text.strip() if turn.message else ""
    if errors:
        return f"{turn.model} called a tool wrongly: {errors[0]}"
    return f"{turn.model} called no tool, it answered {text[:MAX_QUOTE]!r}"


async def _listed(settings: Settings) -> Finding:
    options = settings.model
    url = options.endpoint or OPENAI_URL
    found = await model_health(
        base_url=url,
        api_key=options.api_key,
        name=options.name,
        query=options.query,
        headers=options.headers,
    )
    if found.problem is not None:
        advice = "OPENAI_API_KEY and OPENAI_BASE_URL say how"
        return Finding(name="model", state="failed", says=found.problem, advice=advice)
    if found.doubt is not None:
        advice = "an endpoint that offers chats and no list is well all the same"
        return Finding(name="model", state="warning", says=found.doubt, advice=advice)
    if found.lists_model is False:
        says = f"{url} answers, but does not list {options.name}"
        return Finding(name="model", state="warning", says=says, advice="LLM_MODEL names it")
    return Finding(name="model", state="ok", says=f"{options.model} at {url}")
