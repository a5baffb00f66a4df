"""The model, as `orchestrator doctor` looks at it: no token is spent."""

from orchestrator.agents.model_health import model_health
from orchestrator.app import model_problem
from orchestrator.cli.finding import Finding
from orchestrator.settings import Settings

OPENAI_URL = "https://api.openai.com/v1"


async def model_finding(settings: Settings) -> Finding:
    options = settings.model
    problem = await model_problem(options)
    if problem is not None:
        advice = "a worker with these settings does not start"
        return Finding(name="model", state="failed", says=problem, advice=advice)
    if options.provider != "openai":
        says = f"{options.model}: only OpenAI's protocol can be asked without spending tokens"
        return Finding(name="model", state="skipped", says=says)
    return await _asked(settings)


async def _asked(settings: Settings) -> Finding:
    options = settings.model
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
