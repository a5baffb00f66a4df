"""The model can't complete its own task with a value that a person or an event has to give."""

from tests.acceptance.conftest import Office
from tests.fakes.bus import until
from tests.fakes.llm import calls
from tests.integration.cli.command import told

ASK = "Release the payment once it is approved: yes or no"
CLAIM = calls(("update_context", {"collected": {"approval": "yes"}}))
WAIT = calls(("wait_for_event", {"reason": "the approval"}))


async def test_a_field_that_is_from_a_person_takes_a_persons_command(office: Office) -> None:
    field = {"name": "approval", "from": "person"}
    office.llm.will("by-person", CLAIM, WAIT, CLAIM, WAIT)
    await office.observer.task("by-person", ASK, required_fields=[field])
    await office.observer.reached("by-person", "waiting")
    await office.observer.event("by-person", {"approval": "yes", "by": "kim"})
    await until(lambda: _waited_twice(office), what="a second wait")

    flags = ("--set", '{"approval": "yes"}', "--by", "kim", "--reason", "within the limit")
    await told(office.service.environ(), "tasks", "give", "by-person", *flags)

    row = await office.observer.reached("by-person", "completed")
    assert row["context"]["collected_data"] == {"approval": "yes"}
    history = await told(office.service.environ(), "tasks", "history", "by-person")
    given = [(s["who"], s["why"]) for s in history["steps"] if s["what"] == "event given"]
    assert given == [("kim", "within the limit")]
    refusal = office.llm.of("by-person")[1].messages[-2]["content"]
    assert refusal.startswith("Error: nothing was written: 'approval' counts only from a person")


async def _waited_twice(office: Office) -> bool:
    return (await office.observer.kinds("by-person")).count("waiting") == 2


async def test_the_model_writes_down_what_an_event_said_and_nothing_else(office: Office) -> None:
    invented = calls(("update_context", {"collected": {"colour": "green"}}))
    stated = calls(("update_context", {"collected": {"colour": "dark red"}}))
    office.llm.will("stated", invented, WAIT, invented, stated)
    await office.observer.task("stated", "Order the paint that the customer wants", "colour")
    await office.observer.reached("stated", "waiting")
    await office.observer.event("stated", {"text": "We would like it red, a dark one."})
    row = await office.observer.reached("stated", "completed")
    assert row["context"]["collected_data"] == {"colour": "dark red"}
