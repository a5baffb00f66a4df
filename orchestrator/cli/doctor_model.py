"""The model, as `orchestrator doctor` looks at it: no token is spent."""

from orchestrator.agents.http import model_http_client
from orchestrator.agents.model_health import model_health
from orchestrator.cli.finding import Finding
from orchestrator.domain.errors import InvalidSettings
from orchestrator.planners.agentic.model import build_model
from orchestrator.planners.agentic.options import ModelOptions

OPENAI_URL = "https://api.openai.com/v1"


async def model_finding(options: ModelOptions) -> Finding:
    problem = await _build_problem(options)
    if problem is not None:
        advice = "a worker with these settings does not start"
        return Finding(name="model", state="failed", says=problem, advice=advice)
    if options.provider != "openai":
        says = f"{options.model}: only OpenAI's protocol can be asked without spending tokens"
        return Finding(name="model", state="skipped", says=says)
    return await _asked(options)


async def _build_problem(options: ModelOptions) -> str | None:
    """Why a worker could not make it: a package or a key may be missing, an option refused."""
    async with model_http_client(timeout_seconds=options.timeout_seconds) as client:
        try:
            build_model(options, client=client)
        except InvalidSettings as error:
            return str(error)
    return None


async def _asked(options: ModelOptions) -> Finding:
    url = options.base_url or OPENAI_URL
    found = await model_health(base_url=url, api_key=options.api_key, name=options.name)
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
