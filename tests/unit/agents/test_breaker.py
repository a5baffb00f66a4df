"""The breaker: when it opens, how long it stays open, and how it closes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.agents.breaker import Breaker, BreakerOptions, BreakerState
from orchestrator.domain.fault import Fault

DOWN = [Fault.UNAVAILABLE, Fault.FAILED]
OPTIONS = BreakerOptions(open_seconds=20.0, max_open_seconds=300.0)


def breaker(jitter: float = 1.0) -> Breaker:
    return Breaker(OPTIONS, random=lambda: jitter)


def call(of: Breaker, fault: Fault | None = None, *, now: float = 0.0, **more: float) -> Breaker:
    """One call with this end."""
    of.report(fault, of.enter(now), now=now, **more)
    return of


def opened(*, at: float = 0.0) -> Breaker:
    made = breaker()
    for _ in range(5):
        call(made, Fault.UNAVAILABLE, now=at)
    return made


@pytest.mark.parametrize("fault", DOWN)
def test_five_failures_in_a_row_open_it(fault: Fault) -> None:
    made = breaker()
    for _ in range(4):
        assert call(made, fault).state is BreakerState.CLOSED
    assert call(made, fault).state is BreakerState.OPEN


def test_half_of_a_full_window_opens_it() -> None:
    made = breaker()
    for _ in range(9):
        call(call(made, Fault.FAILED), None)
    assert call(made, None).state is BreakerState.CLOSED
    assert call(made, Fault.FAILED).state is BreakerState.OPEN


def test_refusals_and_unusable_answers_never_open_it() -> None:
    made = breaker()
    for _ in range(100):
        call(made, None)
    assert made.state is BreakerState.CLOSED


def test_one_probe_goes_out_when_its_time_comes() -> None:
    made = opened()
    assert made.closed_for(19.0) == 1.0
    assert made.closed_for(20.0) == 0.0
    made.enter(20.0)
    assert made.state is BreakerState.HALF_OPEN
    assert made.closed_for(20.0) > 0


def test_a_probe_that_is_answered_closes_it() -> None:
    assert call(opened(), None, now=20.0).state is BreakerState.CLOSED


def test_a_probe_that_fails_opens_it_again() -> None:
    made = call(opened(), Fault.UNAVAILABLE, now=20.0)
    assert (made.state, made.closed_for(20.0)) == (BreakerState.OPEN, 20.0)


def test_a_probe_without_an_end_makes_room_for_another() -> None:
    made = opened()
    made.leave(made.enter(20.0))
    assert made.closed_for(20.0) == 0.0


def test_the_longer_it_is_down_the_rarer_are_the_probes() -> None:
    made, now, waits = opened(), 0.0, []
    for _ in range(60):
        waits.append(round(made.closed_for(now), 3))
        now += waits[-1] + 0.001
        call(made, Fault.UNAVAILABLE, now=now)
    assert waits[:10] == [20.0] * 10
    assert waits == sorted(waits)
    assert waits[-1] == 300.0


@given(jitter=st.floats(0, 1))
def test_jitter_takes_half_of_the_time_at_most(jitter: float) -> None:
    made = breaker(jitter)
    for _ in range(5):
        call(made, Fault.FAILED)
    assert 10.0 <= made.closed_for(0.0) <= 20.0


def test_what_was_sent_before_it_opened_says_nothing_after() -> None:
    made = breaker()
    early = [made.enter(0.0) for _ in range(10)]
    for passed in early[:5]:
        made.report(Fault.FAILED, passed, now=0.0)
    for passed in early[5:]:
        made.report(None, passed, now=1.0)
        made.leave(passed)
    assert (made.state, made.closed_for(1.0)) == (BreakerState.OPEN, 19.0)


def test_one_limited_call_stops_no_other() -> None:
    assert call(breaker(), Fault.LIMITED, wish_seconds=60.0).state is BreakerState.CLOSED


def test_two_limited_calls_stop_the_others_for_as_long_as_was_asked() -> None:
    made = call(call(breaker(), Fault.LIMITED), Fault.LIMITED, wish_seconds=60.0)
    assert (made.state, made.closed_for(0.0)) == (BreakerState.OPEN, 60.0)
    assert made.is_limited


@pytest.mark.parametrize(("wish", "held"), [(-1.0, 1.0), (0.0, 1.0), (1e9, 3600.0)])
def test_an_absurd_wish_is_brought_within_bounds(wish: float, held: float) -> None:
    made = call(call(breaker(), Fault.LIMITED), Fault.LIMITED, wish_seconds=wish)
    assert made.closed_for(0.0) == held


def test_a_limit_without_a_time_doubles_its_own() -> None:
    made, now, waits = call(call(breaker(), Fault.LIMITED), Fault.LIMITED), 0.0, []
    for _ in range(8):
        waits.append(round(made.closed_for(now), 3))
        now += waits[-1] + 0.001
        call(made, Fault.LIMITED, now=now)
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


def test_a_later_limit_of_an_earlier_call_makes_the_wait_longer() -> None:
    made = breaker()
    late = [made.enter(0.0) for _ in range(4)]
    for wish, passed in enumerate(late):
        made.report(Fault.LIMITED, passed, now=0.0, wish_seconds=wish * 10.0)
    assert made.closed_for(0.0) == 30.0


@pytest.mark.parametrize(("wish", "held"), [(600.0, 600.0), (5.0, 20.0), (1e9, 3600.0)])
def test_a_wish_beside_failures_holds_it_for_as_long_as_was_asked(wish: float, held: float) -> None:
    made = breaker()
    limited, *failing = [made.enter(0.0) for _ in range(6)]
    for passed in failing:
        made.report(Fault.FAILED, passed, now=0.0)
    made.report(Fault.LIMITED, limited, now=0.0, wish_seconds=wish)
    assert (made.state, made.closed_for(0.0)) == (BreakerState.OPEN, held)


@pytest.mark.parametrize("fault", DOWN)
def test_a_wish_of_the_call_that_opens_it_is_kept(fault: Fault) -> None:
    made = breaker()
    for _ in range(5):
        call(made, fault, wish_seconds=600.0)
    assert made.closed_for(0.0) == 600.0
    assert call(made, fault, now=600.0, wish_seconds=60.0).closed_for(600.0) == 60.0


@pytest.mark.parametrize("answer", [None, Fault.FAILED])
def test_a_wish_counts_before_the_answer_of_a_probe_under_way(answer: Fault | None) -> None:
    made = breaker()
    limited, *failing = [made.enter(0.0) for _ in range(6)]
    for passed in failing:
        made.report(Fault.FAILED, passed, now=0.0)
    probe = made.enter(20.0)
    made.report(Fault.LIMITED, limited, now=21.0, wish_seconds=600.0)
    made.report(answer, probe, now=22.0)
    made.leave(probe)
    assert (made.state, made.closed_for(21.0)) == (BreakerState.OPEN, 600.0)


def test_a_wish_that_comes_after_it_closed_stops_nobody() -> None:
    made = breaker()
    limited, *failing = [made.enter(0.0) for _ in range(6)]
    for passed in failing:
        made.report(Fault.FAILED, passed, now=0.0)
    call(made, None, now=20.0)
    made.report(Fault.LIMITED, limited, now=21.0, wish_seconds=600.0)
    assert (made.state, made.closed_for(21.0)) == (BreakerState.CLOSED, 0.0)


faults = st.sampled_from([None, *Fault])


@given(st.lists(st.tuples(faults, st.floats(0, 40), st.booleans()), max_size=200))
def test_it_never_stays_open_for_ever(calls: list[tuple[Fault | None, float, bool]]) -> None:
    made, now, flying = breaker(), 0.0, []
    for fault, pause, is_kept in calls:
        now += pause
        if made.closed_for(now) == 0:
            flying.append(made.enter(now))
        if flying and not is_kept:
            made.report(fault, flying.pop(0), now=now)
    for passed in flying:
        made.leave(passed)
    assert made.closed_for(now + 3600.0) == 0.0
