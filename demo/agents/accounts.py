"""Accounts: opens an account for a customer. A demo agent; copy it to begin one of your own.

An agent is two routes. `POST /execute` may come twice with the same `Idempotency-Key`: open the
account once, and give the same answer again.
"""

import zlib
from typing import Annotated, Any

from fastapi import FastAPI, Header
from pydantic import BaseModel

app = FastAPI(title="Accounts")

# The answer given under each key. A real agent keeps these in its database, written in the same
# transaction as the effect; in memory they last as long as the process, which is enough to try it.
ANSWERS: dict[str, dict[str, Any]] = {}

# Digits of an account number behind the country's code and two check digits.
IBAN_DIGITS = {"AT": 16, "BE": 12, "CH": 17, "DE": 18, "ES": 20, "FR": 23}


class Execute(BaseModel):
    execution_id: str  # the task's id
    node_id: str  # which step and call of it
    input: dict[str, Any]  # was checked against the input_schema of accounts.yaml
    config: dict[str, Any] = {}


@app.get("/health")
async def health() -> dict[str, Any]:
    return {"ready": True, "version": "1.0.0", "capabilities": ["account.open"]}


@app.post("/execute")
async def execute(call: Execute, idempotency_key: Annotated[str, Header()]) -> dict[str, Any]:
    if idempotency_key in ANSWERS:
        return ANSWERS[idempotency_key]
    number = account_number(str(call.input["customer_id"]), call.input.get("country", "DE"))
    answer = {"status": "success", "output": {"account_number": number}}
    ANSWERS[idempotency_key] = answer
    return answer


def account_number(customer_id: str, country: str) -> str:
    """An IBAN with right check digits; where there are no IBANs, a plain number."""
    serial = zlib.crc32(customer_id.encode())
    if country not in IBAN_DIGITS:
        return f"{country}{serial:012}"
    account = f"{serial:0{IBAN_DIGITS[country]}}"
    as_digits = "".join(str(int(character, 36)) for character in f"{account}{country}00")
    return f"{country}{98 - int(as_digits) % 97:02}{account}"
