"""What answers say about an endpoint, and when it is left alone (rules G2, G3)."""

import random
from collections.abc import Sequence
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.domain.breaker import (
    FAILING_LANES,
    FIRST_PAUSE,
    LONGEST_PAUSE,
    LONGEST_RETRY_AFTER,
    REFUSAL_WINDOW,
    SAME_REFUSALS,
    UNREACHABLE,
    Breaker,
    Verdict,
    judge,
)

LANES = [UUID(int=n) for n in range(40)]
NOW = 1000.0
DELIVERED, REFUSED, FAILING = Verdict.DELIVERED, Verdict.REFUSED, Verdict.FAILING
NOBODY, LIMITED, GONE = Verdict.UNREACHABLE, Verdict.LIMITED, Verdict.GONE
ANSWERS = [
    *((status, None, DELIVERED) for status in (200, 201, 202, 204, 299)),
    *((status, None, REFUSED) for status in (400, 401, 403, 404, 405, 409, 413, 415, 418, 422, 424, 426, 451, 499)),
    *((status, None, FAILING) for status in (408, 425, 500, 501, 502, 503, 504, 599)),
    *((status, None, FAILING) for status in (100, 101, 199, 300, 301, 302, 303, 304, 307, 308, 399, 600, 999)),
    *((429, retry_after, LIMITED) for retry_after in (None, 0.0, 30.0)),
    *((503, retry_after, LIMITED) for retry_after in (0.0, 30.0)),
    *((status, 30.0, FAILING) for status in (301, 408, 500, 502, 504)),
    *((status, 30.0, REFUSED) for status in (400, 404, 422)),
    (410, None, GONE),
    (410, 30.0, GONE),
]


@pytest.mark.parametrize(("status", "retry_after", "verdict"), ANSWERS)
def test_g3_every_status_says_one_thing(status: int, retry_after: float | None, verdict: Verdict) -> None:
    assert judge(status, retry_after, is_unreachable=False) is verdict


@pytest.mark.parametrize(("is_unreachable", "verdict"), [(True, NOBODY), (False, FAILING)])
def test_g3_no_answer_is_nobody_or_an_ill_endpoint(is_unreachable: bool, verdict: Verdict) -> None:
    assert judge(None, None, is_unreachable=is_unreachable) is verdict


@pytest.mark.parametrize(
    ("verdict", "blames_endpoint", "outcome"),
    [
        (DELIVERED, False, "delivered"),
        (REFUSED, False, "refused"),
        (FAILING, True, "failed"),
        (NOBODY, True, "failed"),
        (LIMITED, True, "failed"),
        (GONE, False, "gone"),
    ],
)
def test_g3_every_verdict_has_one_culprit_and_is_counted_once(
    verdict: Verdict, blames_endpoint: bool, outcome: str
) -> None:
    assert (verdict.blames_endpoint, verdict.outcome) == (blames_endpoint, outcome)


def fresh(seed: int = 0) -> Breaker:
    return Breaker(random.Random(seed))


def opened(seed: int = 0) -> Breaker:
    """Open, because nobody was there."""
    made = fresh(seed)
    for lane in LANES[:UNREACHABLE]:
        made.failed(lane, NOBODY, NOW, None)
    assert made.state == "open"
    return made


def probing(breaker: Breaker) -> float:
    """The pause is over, and the delivery that decides has started; gives when."""
    at = breaker.until
    assert not breaker.may_try(at - 0.001)
    assert breaker.may_try(at)
    breaker.started()
    assert breaker.state == "half_open"
    return at


def stormed() -> Breaker:
    """Open, because many conversations were refused in the same way."""
    made = fresh()
    told = [made.refused(lane, 422, NOW) for lane in LANES[:SAME_REFUSALS]]
    assert told == [False] * (SAME_REFUSALS - 1) + [True]
    assert made.state == "open"
    return made


# Opening ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failures", "is_open"),
    [
        ([(0, NOBODY)], False),
        ([(0, NOBODY), (0, NOBODY)], True),
        ([(0, NOBODY), (1, NOBODY)], True),
        ([(0, FAILING), (1, FAILING)], False),
        ([(0, FAILING), (1, FAILING), (0, FAILING), (1, FAILING)], False),
        ([(0, FAILING), (1, FAILING), (2, FAILING)], True),
        ([(0, FAILING), (1, NOBODY), (2, FAILING)], True),
        ([(0, LIMITED)], True),
    ],
)
def test_g3_the_endpoint_is_left_alone_once_it_is_to_blame(
    failures: Sequence[tuple[int, Verdict]], is_open: bool
) -> None:
    breaker = fresh()
    told = [breaker.failed(LANES[lane], verdict, NOW, None) for lane, verdict in failures]
    assert told == [False] * (len(failures) - 1) + [is_open]
    assert breaker.state == ("open" if is_open else "closed")
    assert breaker.may_try(NOW) is not is_open


@given(st.lists(st.sampled_from(["failing", "500 of another", "422", "404"]), max_size=60))
def test_g3_one_conversation_alone_never_opens_it(answers: list[str]) -> None:
    """However often it fails or is refused, also next to another one that fails."""
    breaker = fresh()
    for answer in answers:
        if answer.isdigit():
            assert not breaker.refused(LANES[0], int(answer), NOW)
        else:
            assert not breaker.failed(LANES[answer != "failing"], FAILING, NOW, None)
        assert breaker.state == "closed"
        assert breaker.may_try(NOW)


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from([FAILING, NOBODY])), max_size=60))
def test_g3_every_success_starts_the_count_again(failures: list[tuple[int, Verdict]]) -> None:
    """Of whatever conversation: the endpoint is well."""
    breaker = fresh()
    for lane, verdict in failures:
        assert not breaker.failed(LANES[lane], verdict, NOW, None)
        breaker.succeeded(NOW)
    assert breaker.state == "closed"


@pytest.mark.parametrize(("before", "verdict"), [(UNREACHABLE - 1, NOBODY), (FAILING_LANES - 1, FAILING)])
def test_g3_after_a_success_it_takes_as_many_failures_as_ever(before: int, verdict: Verdict) -> None:
    breaker = fresh()
    for round_ in range(3):
        for lane in LANES[:before]:
            assert not breaker.failed(lane, verdict, NOW, None)
        breaker.succeeded(NOW + round_)
        assert breaker.last_success == NOW + round_
    for lane in LANES[:before]:
        assert not breaker.failed(lane, verdict, NOW, None)
    assert breaker.failed(LANES[before], verdict, NOW, None)


@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0, 5.0, 7.0]), st.sampled_from([404, 422])), max_size=len(LANES)))
def test_g3_many_conversations_refused_in_the_same_way_within_a_minute_open_it(
    refusals: list[tuple[float, int]],
) -> None:
    breaker, now = fresh(), NOW
    seen: list[tuple[int, float]] = []
    for lane, (gap, status) in zip(LANES, refusals, strict=False):
        now += gap
        seen.append((status, now))
        is_storm = sum(s == status and now - at < REFUSAL_WINDOW for s, at in seen) >= SAME_REFUSALS
        assert breaker.refused(lane, status, now) is is_storm
        assert breaker.state == ("open" if is_storm else "closed")
        if is_storm:
            return


@pytest.mark.parametrize(("gap", "is_open"), [(0.0, True), (59.9, True), (60.0, False), (300.0, False)])
def test_g3_refusals_of_more_than_a_minute_ago_say_nothing(gap: float, is_open: bool) -> None:
    breaker = fresh()
    for lane in LANES[: SAME_REFUSALS - 1]:
        breaker.refused(lane, 422, NOW)
    assert breaker.refused(LANES[SAME_REFUSALS], 422, NOW + gap) is is_open


def test_g2_an_endpoint_that_takes_others_is_not_to_blame_for_those_it_refuses() -> None:
    breaker = fresh()
    for lane in LANES[: SAME_REFUSALS - 1]:
        breaker.refused(lane, 422, NOW)
    breaker.succeeded(NOW)
    assert not breaker.refused(LANES[20], 422, NOW)


# Half open ----------------------------------------------------------------------------------------------------------


def test_g3_half_open_lets_one_through_which_closes_it() -> None:
    breaker = opened()
    at = probing(breaker)
    assert not breaker.may_try(at)
    assert not breaker.may_try(at + 3600)
    breaker.succeeded(at)
    assert breaker.state == "closed"
    assert breaker.may_try(at)


@given(st.integers(1, 15), st.integers(), st.sampled_from([FAILING, NOBODY, LIMITED]))
def test_g3_each_failure_of_the_one_let_through_doubles_the_pause_up_to_the_longest(
    rounds: int, seed: int, verdict: Verdict
) -> None:
    breaker, pause = opened(seed), FIRST_PAUSE
    assert 0.8 * pause <= breaker.until - NOW <= 1.2 * pause
    for lane in LANES[:rounds]:
        at = probing(breaker)
        assert breaker.failed(lane, verdict, at, None)
        pause = min(2 * pause, LONGEST_PAUSE)
        assert breaker.state == "open"
        assert 0.8 * pause - 1e-6 <= breaker.until - at <= 1.2 * pause + 1e-6
    at = probing(breaker)
    breaker.succeeded(at)
    assert breaker.failed(LANES[0], LIMITED, at, None)
    assert 0.8 * FIRST_PAUSE - 1e-6 <= breaker.until - at <= 1.2 * FIRST_PAUSE + 1e-6


def test_g3_pauses_are_spread() -> None:
    assert len({opened(seed).until for seed in range(50)}) > 40


def test_g3_those_in_flight_when_it_opened_do_not_lengthen_the_pause() -> None:
    breaker = opened()
    until = breaker.until
    for lane in LANES:
        assert breaker.failed(lane, NOBODY, NOW + 0.5, None)
    assert (breaker.state, breaker.until) == ("open", until)


def test_g3_a_success_of_one_in_flight_when_it_opened_closes_it() -> None:
    breaker = opened()
    breaker.succeeded(NOW)
    assert breaker.state == "closed"
    assert breaker.may_try(NOW)


def test_g2_a_probe_that_was_given_up_lets_the_next_one_through_at_once() -> None:
    breaker = opened()
    at = probing(breaker)
    breaker.given_up(at)
    assert (breaker.state, breaker.until) == ("open", at)
    assert probing(breaker) == at
    breaker.failed(LANES[0], FAILING, at, None)
    assert breaker.until - at <= 2.4 * FIRST_PAUSE  # only one was seen to fail


@pytest.mark.parametrize("breaker", [fresh(), opened()])
def test_g2_giving_up_what_was_no_probe_changes_nothing(breaker: Breaker) -> None:
    before = breaker.state, breaker.until
    breaker.given_up(NOW + 0.1)
    assert (breaker.state, breaker.until) == before


# Retry-After --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("retry_after", "least", "most"),
    [
        (None, 0.8 * FIRST_PAUSE, 1.2 * FIRST_PAUSE),
        (0.0, 0.8 * FIRST_PAUSE, 1.2 * FIRST_PAUSE),
        (30.0, 30.0, 30.0),
        (LONGEST_RETRY_AFTER, LONGEST_RETRY_AFTER, LONGEST_RETRY_AFTER),
        (86_400.0, LONGEST_RETRY_AFTER, LONGEST_RETRY_AFTER),
    ],
)
def test_g3_who_asks_for_time_is_given_it_up_to_an_hour(retry_after: float | None, least: float, most: float) -> None:
    breaker = fresh()
    assert breaker.failed(LANES[0], LIMITED, NOW, retry_after)
    assert least <= breaker.until - NOW <= most
    probing(breaker)


def test_g3_who_asks_later_for_more_time_is_given_it_and_nobody_shortens_it() -> None:
    breaker = opened()
    breaker.failed(LANES[2], LIMITED, NOW, 30.0)
    assert breaker.until == NOW + 30
    breaker.failed(LANES[3], LIMITED, NOW + 1, 5.0)
    assert breaker.until == NOW + 30
    at = probing(breaker)
    breaker.failed(LANES[3], LIMITED, at, 40.0)
    assert breaker.until == at + 40


@pytest.mark.parametrize("seconds", [0.0, 15.0, 29.9])
def test_g3_a_success_does_not_end_the_time_that_an_endpoint_asked_for(seconds: float) -> None:
    """It was in flight when another delivery was told to wait."""
    breaker = fresh()
    breaker.failed(LANES[0], LIMITED, NOW, 30.0)
    breaker.succeeded(NOW + seconds)
    assert (breaker.state, breaker.until) == ("open", NOW + 30)
    at = probing(breaker)
    breaker.succeeded(at)
    assert breaker.state == "closed"


def test_g3_nor_when_another_delivery_was_told_to_wait_for_less() -> None:
    breaker = fresh()
    breaker.failed(LANES[0], LIMITED, NOW, 30.0)
    breaker.failed(LANES[1], LIMITED, NOW + 1, 5.0)
    breaker.succeeded(NOW + 10)
    assert (breaker.state, breaker.until) == ("open", NOW + 30)


# Storms of refusals -------------------------------------------------------------------------------------------------


def test_g3_a_storm_lasts_while_the_probe_is_refused_in_the_same_way() -> None:
    """Also long after the refusals that made it are too old to count."""
    breaker, pause = stormed(), FIRST_PAUSE
    for _ in range(9):
        at = probing(breaker)
        assert breaker.refused(LANES[0], 422, at)
        pause = min(2 * pause, LONGEST_PAUSE)
        assert 0.8 * pause - 1e-6 <= breaker.until - at <= 1.2 * pause + 1e-6
    assert breaker.until - NOW > 2 * REFUSAL_WINDOW
    at = probing(breaker)
    breaker.succeeded(at)
    assert breaker.state == "closed"


def test_g3_a_storm_is_over_when_the_probe_is_refused_in_another_way() -> None:
    breaker = stormed()
    at = probing(breaker)
    assert not breaker.refused(LANES[0], 404, at)
    assert breaker.state == "closed"


def test_g3_a_refused_probe_proves_that_an_endpoint_is_there_again() -> None:
    breaker = opened()
    at = probing(breaker)
    assert not breaker.refused(LANES[0], 422, at)
    assert breaker.state == "closed"


@pytest.mark.parametrize(("verdict", "lanes"), [(NOBODY, UNREACHABLE), (FAILING, FAILING_LANES)])
def test_g3_after_a_refused_probe_one_conversation_alone_does_not_open_it(verdict: Verdict, lanes: int) -> None:
    """What failed before the endpoint answered is not in a row with what fails after."""
    breaker = fresh()
    for lane in LANES[:lanes]:
        breaker.failed(lane, verdict, NOW, None)
    at = probing(breaker)
    assert not breaker.refused(LANES[10], 422, at)
    assert not breaker.failed(LANES[11], verdict, at, None)
    assert breaker.state == "closed"


def test_g3_a_refusal_is_an_answer_so_nobody_before_and_nobody_after_are_not_in_a_row() -> None:
    breaker = fresh()
    breaker.failed(LANES[0], NOBODY, NOW, None)
    assert not breaker.refused(LANES[1], 422, NOW)
    assert not breaker.failed(LANES[2], NOBODY, NOW, None)


# All together -------------------------------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["start", "success", "fail", "nobody", "limit", "refuse", "give up", "wait"]),
            st.integers(0, 15),
            st.one_of(st.none(), st.floats(0, 7200)),
        ),
        max_size=80,
    ),
    st.integers(),
)
def test_g3_whatever_happens_it_is_open_for_a_bounded_time_and_a_probe_that_succeeds_closes_it(
    steps: list[tuple[str, int, float | None]], seed: int
) -> None:
    breaker, now = fresh(seed), NOW
    for step, number, seconds in steps:
        lane = LANES[number]
        if step == "start" and breaker.may_try(now):
            breaker.started()
            assert breaker.state != "open"
        elif step == "success":
            was_probing = breaker.state == "half_open"
            breaker.succeeded(now)
            assert breaker.state in {"open", "closed"}
            assert breaker.state == "closed" or not was_probing
        elif step in {"fail", "nobody", "limit"}:
            verdict = {"fail": FAILING, "nobody": NOBODY, "limit": LIMITED}[step]
            asked = seconds if verdict is LIMITED else None
            assert breaker.failed(lane, verdict, now, asked) is (breaker.state != "closed")
        elif step == "refuse":
            assert not breaker.refused(lane, 422 + number % 2, now) or breaker.state == "open"
        elif step == "give up":
            breaker.given_up(now)
        elif step == "wait":
            now += seconds or 1.0
        if breaker.state == "open":
            assert breaker.until - now <= max(LONGEST_RETRY_AFTER, 1.2 * LONGEST_PAUSE) + 1e-6
        assert breaker.may_try(now) is (breaker.state == "closed" or (breaker.state == "open" and now >= breaker.until))
