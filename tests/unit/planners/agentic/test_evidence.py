"""What the model writes down stands in what the task was given: the values of decision 0035."""

import pytest

from orchestrator.domain.call import Call
from orchestrator.domain.decision import Delegate, Turn
from orchestrator.domain.ids import AgentId
from orchestrator.domain.json import JsonObject, JsonValue
from orchestrator.planners.agentic.evidence import MAX_CHARACTERS, is_stated
from tests.unit.planners.journal import answered, decided, event, new_task

INVOICE = "Invoice 4711 over EUR 12,500.00 is due on 1 March 2026"
RECHNUNG = "Rechnung 4711 über 12.500,50 € vom 03.02.2026"
PAY = "Pay $1,234.56 to Bob O'Neil <bob@example.com>"
SHIP = "Ship the order to 5 Main St., Springfield, IL 62704"
ITEMS = "Items: 3 x bolts, 12 x nuts"
MEETING = "Meeting on 2026-05-04 at 14:00"
NFD = "contact Zoe\u0308 Mu\u0308ller"

STATED: list[tuple[str, JsonObject, JsonValue]] = [
    ("Register the customer ACME", {}, "ACME"),
    ("Register Acme GmbH, Berlin, Germany", {}, "acme gmbh"),
    ("Register Acme GmbH, Berlin, Germany", {}, {"city": "Berlin", "country": "Germany"}),
    (INVOICE, {}, 12500),
    (INVOICE, {}, 12500.0),
    (INVOICE, {}, "12500.00"),
    (INVOICE, {}, "12500 EUR"),
    (INVOICE, {}, "2026-03-01"),
    (INVOICE, {}, "2026-03-01T00:00:00Z"),
    (RECHNUNG, {}, 12500.5),
    (RECHNUNG, {}, "EUR"),
    (RECHNUNG, {}, "2026-02-03"),
    (PAY, {}, 1234.56),
    (PAY, {}, "USD"),
    (PAY, {}, "bob@example.com"),
    (PAY, {}, "Bob O'Neil"),
    ("Draw up a contract", {"term_months": 24}, 24),
    ("Draw up a contract", {"term": "24 months"}, 24),
    ("Draw up a contract", {"term": "two years"}, "two years"),
    (SHIP, {}, {"street": "5 Main St.", "city": "Springfield", "zip": "62704"}),
    ("Onboard the supplier DE 123 456 789", {}, "DE123456789"),
    ("Call back on +49 30 1234-567", {}, "+49301234567"),
    ("The discount is 12.5 %", {}, 12.5),
    ("Is the customer a VIP? Yes.", {}, True),
    ("Register", {"answer": "yes, go on"}, True),
    ("Register", {"approved": True}, "true"),
    ("Register", {"text": "I approve this"}, "I approve this"),
    ("Complaint, order or question?", {"mail": "Where is my parcel?"}, "question"),
    ("请在上海市注册客户", {}, "上海市"),
    (NFD, {}, "Zoë Müller"),
    (ITEMS, {}, [{"item": "bolts", "quantity": 3}, {"item": "nuts", "quantity": 12}]),
    ("IBAN DE89 3704 0044 0532 0130 00", {}, "DE89370400440532013000"),
    ("order-4711 for customer_17", {}, "customer_17"),
    (MEETING, {}, "4 May 2026"),
    (MEETING, {}, "2026-05-04T14:00:00+00:00"),
]
INVENTED: list[tuple[str, JsonObject, JsonValue]] = [
    ("Ask a person for approval", {}, True),
    ("Ask a person for approval", {}, "yes"),
    ("Ask a person for approval", {}, "approved"),
    ("Ask a person for approval", {}, "granted by the manager"),
    ("Classify the mail", {"mail": "Where is my parcel?"}, "complaint"),
    ("Draw up a contract", {"term_months": 24}, 36),
    ("Register the customer ACME", {}, "C-1001"),
    ("Register the customer ACME", {}, "unknown"),
    ("Register the customer ACME", {}, "N/A"),
    ("Register the customer ACME", {}, 0),
    ("Register the customer ACME", {}, False),
    ("Register the customer ACME", {}, ""),
    ("Register the customer ACME", {}, "-"),
    ("Register the customer ACME", {}, []),
    ("Register the customer ACME", {}, {}),
    ("Register the customer ACME", {}, {"ACME": None}),
    (PAY, {}, "alice@example.com"),
    (ITEMS, {}, [{"item": "screws", "quantity": 3}]),
    ("IBAN DE89 3704 0044 0532 0130 00", {}, "DE89370400440532013001"),
    ("请在上海市注册客户", {}, "北京市"),
    (INVOICE, {}, 12501),
    (INVOICE, {}, "2026-04-01"),
]
TRANSLATED: list[tuple[str, JsonObject, JsonValue]] = [
    ("Register Acme GmbH, Berlin, Germany", {}, "DE"),
    ("Draw up a contract", {"term": "two years"}, 24),
    (SHIP, {}, "5 Main Street"),
    ("Register", {"text": "I approve this"}, True),
    ("Meeting on Monday at 2 pm", {}, "14:00"),
]
"""Right, and in other words: the model is told to take the words that are there."""


COINCIDENT: list[tuple[str, JsonObject, JsonValue]] = [
    ("Ask a person for approval", {}, "approval"),
    ("Bill 12.500,50 € of 3 March 2026", {}, "2026-03-12"),
]
"""Nobody said so, and all of their words are there. A field that decides something needs `from`."""


@pytest.mark.parametrize(("text", "data", "value"), [*STATED, *COINCIDENT])
def test_what_the_task_or_an_event_says_is_stated(
    text: str, data: JsonObject, value: JsonValue
) -> None:
    assert is_stated(value, new_task(text, event_data=data))


@pytest.mark.parametrize(("text", "data", "value"), [*INVENTED, *TRANSLATED])
def test_what_nobody_said_is_not_stated(text: str, data: JsonObject, value: JsonValue) -> None:
    assert not is_stated(value, new_task(text, event_data=data))


def test_agents_and_all_events_are_heard_too() -> None:
    call = Call(number=1, agent=AgentId("crm"), input={"guess": "C-9"}, tool_call_id="c")
    asked = decided(event(new_task(), {"term": 24}), Turn(decision=Delegate(calls=(call,))))
    told = answered(event(asked, {"term": 36}), 1, {"customer": {"number": "C-7"}})
    assert all(is_stated(value, told) for value in (24, 36, "C-7"))
    assert not is_stated("C-9", told), "the model itself said so"


def test_no_more_is_searched_than_the_bound() -> None:
    assert is_stated("last", new_task("first", event_data={"a": "x " * 1000 + "last"}))
    assert not is_stated(
        "last", new_task("first", event_data={"a": "x " * MAX_CHARACTERS + "last"})
    )
