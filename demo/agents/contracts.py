"""Contracts: draws up a contract, and asks for what it is missing. A demo agent to copy.

An agent is two routes. `input_required` ends a call with a question: the task waits for an event
that answers it, and then calls again, under a new key. `POST /execute` may come twice with the same
`Idempotency-Key`: draw up the contract once, and give the same answer again.
"""

import zlib
from typing import Annotated, Any

from fastapi import FastAPI, Header
from pydantic import BaseModel

app = FastAPI(title="Contracts")

# The answer given under each key. A real agent keeps these in its database, written in the same
# transaction as the effect; in memory they last as long as the process, which is enough to try it.
ANSWERS: dict[str, dict[str, Any]] = {}

QUESTION = "How many months shall the contract run (term_months)?"


class Execute(BaseModel):
    execution_id: str  # the task's id
    node_id: str  # which step and call of it
    input: dict[str, Any]  # was checked against the input_schema of contracts.yaml
    config: dict[str, Any] = {}


@app.get("/health")
async def health() -> dict[str, Any]:
    return {"ready": True, "version": "1.0.0", "capabilities": ["contract.create"]}


@app.post("/execute")
async def execute(call: Execute, idempotency_key: Annotated[str, Header()]) -> dict[str, Any]:
    if idempotency_key in ANSWERS:
        return ANSWERS[idempotency_key]
    name, term_months = call.input["name"], call.input.get("term_months")
    if term_months is None:
        answer = {"status": "input_required", "output": {}, "error_message": QUESTION}
    else:
        number = zlib.crc32(f"{name}/{term_months}".encode()) % 1_000_000
        answer = {"status": "success", "output": {"contract_id": f"F-{number:06}"}}
    ANSWERS[idempotency_key] = answer
    return answer
