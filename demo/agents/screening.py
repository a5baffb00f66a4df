"""Screening: checks a customer against a sanctions list. A demo agent; copy it to begin your own.

An agent is two routes. `POST /execute` may come twice with the same `Idempotency-Key`: a screening
is recorded (and paid for) once, and the same answer is given again.
"""

from typing import Annotated, Any

from fastapi import FastAPI, Header
from pydantic import BaseModel

app = FastAPI(title="Screening")

# The answer given under each key. A real agent keeps these in its database, written in the same
# transaction as the effect; in memory they last as long as the process, which is enough to try it.
ANSWERS: dict[str, dict[str, Any]] = {}

SANCTIONED = frozenset({"Spectre", "Weyland-Yutani"})


class Execute(BaseModel):
    execution_id: str  # the task's id
    node_id: str  # which step and call of it
    input: dict[str, Any]  # was checked against the input_schema of screening.yaml
    config: dict[str, Any] = {}


@app.get("/health")
async def health() -> dict[str, Any]:
    return {"ready": True, "version": "1.0.0", "capabilities": ["customer.screen"]}


@app.post("/execute")
async def execute(call: Execute, idempotency_key: Annotated[str, Header()]) -> dict[str, Any]:
    if idempotency_key in ANSWERS:
        return ANSWERS[idempotency_key]
    result = "hit" if call.input["name"] in SANCTIONED else "clear"
    answer = {"status": "success", "output": {"screening_result": result}}
    ANSWERS[idempotency_key] = answer
    return answer
