"""What every caller does, whatever it speaks."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from orchestrator.domain.call import CallStatus
from orchestrator.domain.ids import Epoch
from tests.fakes.agent import Behaviour, failed, input_required, ok, status
from tests.fakes.callers import PROTOCOLS, UnderTest

KEY = "t-1/3/2"


@pytest.fixture(params=sorted(PROTOCOLS))
async def under_test(request: pytest.FixtureRequest) -> AsyncIterator[UnderTest]:
    async with PROTOCOLS[request.param]() as it:
        yield it


async def test_a_success_brings_output_and_usage(under_test: UnderTest) -> None:
    under_test.peer.will(ok({"customer_id": "C-1"}, usage={"tokens": 5}))
    result = await under_test.call()
    assert (result.status, result.output) == (CallStatus.SUCCESS, {"customer_id": "C-1"})
    assert (result.usage, result.error) == ({"tokens": 5}, None)


async def test_the_agent_is_told_key_and_epoch(under_test: UnderTest) -> None:
    await under_test.call(epoch=Epoch(9))
    assert under_test.peer.epochs == {KEY: ["9"]}


async def test_a_repeated_call_has_the_same_key_and_one_effect(under_test: UnderTest) -> None:
    under_test.peer.will(ok({"customer_id": "C-1"}), ok({"customer_id": "C-2"}))
    first, second = await under_test.call(), await under_test.call(epoch=Epoch(8))
    assert first.output == second.output == {"customer_id": "C-1"}
    assert (under_test.peer.sends[KEY], under_test.peer.effects[KEY]) == (2, 1)


@pytest.mark.parametrize("retryable", [None, False, True])
async def test_an_agent_says_whether_its_error_may_be_retried(
    under_test: UnderTest, retryable: bool | None
) -> None:
    under_test.peer.will(failed("no such country", retryable=retryable))
    result = await under_test.call()
    assert (result.status, result.error) == (CallStatus.ERROR, "no such country")
    assert result.retryable is bool(retryable)


async def test_an_agent_may_ask_for_more_input(under_test: UnderTest) -> None:
    under_test.peer.will(input_required("Which country?"))
    result = await under_test.call()
    assert (result.status, result.error) == (CallStatus.INPUT_REQUIRED, "Which country?")


async def test_an_agent_may_answer_later(under_test: UnderTest) -> None:
    under_test.peer.will(status(202))
    assert (await under_test.call()).status == CallStatus.ACCEPTED


async def test_input_against_the_schema_is_never_sent(under_test: UnderTest) -> None:
    result = await under_test.call({"name": 5})
    assert (result.status, result.retryable) == (CallStatus.ERROR, False)
    assert result.error == (
        "the input of agent 'crm' is against its schema: name: 5 is not of type \"string\""
    )
    assert under_test.peer.sends.total() == 0


@pytest.mark.parametrize("name", ["\ud800", float("nan"), 2**70])
async def test_input_that_is_no_json_is_an_error_result(
    under_test: UnderTest, name: object
) -> None:
    result = await under_test.call({"name": "ACME", "note": name})  # type: ignore[dict-item]
    assert result.status in {CallStatus.ERROR, CallStatus.SUCCESS}
    assert result.retryable is False


async def test_output_against_the_schema_is_an_error(under_test: UnderTest) -> None:
    under_test.peer.will(ok({"customer_id": 5}))
    result = await under_test.call()
    assert (result.status, result.retryable, result.output) == (CallStatus.ERROR, False, {})
    assert result.error is not None
    assert "customer_id: 5 is not of type" in result.error


async def test_output_of_an_error_is_not_held_against_the_schema(under_test: UnderTest) -> None:
    under_test.peer.will(failed("half done", output={"customer_id": 5}))
    assert (await under_test.call()).error == "half done"


async def test_the_deadline_ends_a_call_with_a_retryable_error(under_test: UnderTest) -> None:
    under_test.peer.will(Behaviour(kind="hang"))
    result = await under_test.call(timeout_seconds=0.05)
    assert (result.error, result.retryable) == ("agent 'crm' did not answer within 0.05 s", True)


@pytest.mark.parametrize("is_cut_short", [False, True])
async def test_silence_is_the_agents_fault_unless_its_task_had_no_more_time(
    under_test: UnderTest, is_cut_short: bool
) -> None:
    under_test.peer.will(Behaviour(kind="hang"))
    result = await under_test.call(timeout_seconds=0.05, is_cut_short=is_cut_short)
    assert (result.is_cut_short, result.fault is None) == (is_cut_short, is_cut_short)
    assert result.retryable


async def test_without_time_left_nothing_is_sent(under_test: UnderTest) -> None:
    result = await under_test.call(timeout_seconds=0.0)
    assert (result.status, result.retryable) == (CallStatus.ERROR, True)
    assert under_test.peer.sends.total() == 0


async def test_an_unreachable_agent_is_a_retryable_error(under_test: UnderTest) -> None:
    under_test.agent = replace(under_test.agent, endpoint="http://127.0.0.1:1")
    result = await under_test.call()
    assert (result.status, result.retryable) == (CallStatus.ERROR, True)


async def test_cancellation_passes_through(under_test: UnderTest) -> None:
    under_test.peer.will(Behaviour(kind="hang"))
    call = asyncio.create_task(under_test.call())
    await under_test.peer.wait_for_sends(1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_duration_is_measured(under_test: UnderTest) -> None:
    under_test.peer.will(Behaviour(body=ok().body, delay_seconds=0.05))
    assert 50 <= (await under_test.call()).duration_ms < 5000


async def test_recovery_learns_the_result_of_an_earlier_call(under_test: UnderTest) -> None:
    under_test.peer.status = ok({"customer_id": "C-1"})
    result = await under_test.status()
    assert result is not None
    assert result.output == {"customer_id": "C-1"}
    assert under_test.peer.received[0].key == KEY
    assert under_test.peer.effects.total() == 0


async def test_recovery_learns_that_a_call_never_arrived(under_test: UnderTest) -> None:
    assert await under_test.status() is None


@pytest.mark.parametrize(
    ("answer", "may_pass"),
    [
        (status(202), True),
        (status(400), False),
        (status(429), True),
        (status(500), True),
        (status(503, Retry_After="3"), True),
        (status(200, body="?"), False),
        (status(302), False),
    ],
)
async def test_recovery_that_learns_nothing_asks_again_later_where_that_may_help(
    under_test: UnderTest, answer: Behaviour, may_pass: bool
) -> None:
    under_test.peer.status = answer
    result = await under_test.status()
    assert result is not None
    assert (result.status, result.is_unsure) == (CallStatus.ERROR, True)
    assert result.retryable is may_pass
