"""CRM: registers customers. One of four demo agents; copy this file to begin one of your own.

An agent is two routes. `POST /execute` may come twice with the same `Idempotency-Key`, for instance
when the orchestrator died while it waited: do the effect once, and give the same answer again.
"""

import zlib
from typing import Annotated, Any

from fastapi import FastAPI, Header, Response
from pydantic import BaseModel

app = FastAPI(title="CRM")

# The answer given under each key. A real agent keeps these in its database, written in the same
# transaction as the effect; in memory they last as long as the process, which is enough to try it.
ANSWERS: dict[str, dict[str, Any]] = {}

# "Hooli" shows a flaky backend: the first attempt under a key fails, the next one succeeds.
FLAKY_CUSTOMER = "Hooli"
FAILED_ONCE: set[str] = set()


class Execute(BaseModel):
    execution_id: str  # the task's id
    node_id: str  # which step and call of it
    input: dict[str, Any]  # was checked against the input_schema of crm.yaml
    config: dict[str, Any] = {}


@app.get("/health")
async def health() -> dict[str, Any]:
    return {"ready": True, "version": "1.0.0", "capabilities": ["customer.create"]}


@app.post("/execute")
async def execute(
    call: Execute, response: Response, idempotency_key: Annotated[str, Header()]
) -> dict[str, Any]:
    if idempotency_key in ANSWERS:
        return ANSWERS[idempotency_key]
    name = str(call.input["name"])
    if name == FLAKY_CUSTOMER and idempotency_key not in FAILED_ONCE:
        FAILED_ONCE.add(idempotency_key)
        response.status_code = 503  # 429 and 5xx: the orchestrator tries again later
        response.headers["Retry-After"] = "1"
        return {"status": "error", "error_message": "The customer database is restarting."}
    customer_id = f"C-{zlib.crc32(name.encode()) % 1_000_000:06}"
    answer = {"status": "success", "output": {"customer_id": customer_id}}
    ANSWERS[idempotency_key] = answer
    return answer
