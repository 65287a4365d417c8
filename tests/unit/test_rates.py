"""Token buckets and what throttling does to them, under a given clock (rule E9)."""

from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.domain.rates import PAIR_BURST, Pair, Place, Rates, Ticket
from hub.domain.slots import Slots
from hub.domain.throttling import LONGEST_BACKOFF, LONGEST_PAUSE, PAIR_PAUSE, SPAM_PAUSE

ONE, OTHER = 1, 2
MIA, BEN = UUID(int=1), UUID(int=2)


def place(sender: int = ONE, rate: float = 10, **more: Any) -> Place:
    """A message's limits; without a customer unless one is named."""
    return Place(sender, rate, **{"provider": "meta", **more})


def take(rates: Rates, now: float, sender: int = ONE, **more: Any) -> Ticket:
    """One that may go."""
    ticket = rates.take(place(sender, **more), now)
    assert ticket is not None
    return ticket


def taken(rates: Rates, sender: int, rate: float, now: float, most: int = 1000, **more: Any) -> int:
    """How many may go at this moment; the provider takes each of them at once."""
    count = 0
    while count < most and (ticket := rates.take(place(sender, rate, **more), now)):
        rates.went_through(ticket)
        count += 1
    return count


@pytest.mark.parametrize(
    ("rate", "looks"),
    [
        pytest.param(10, [(0, 10), (0, 0), (0.05, 0), (0.1, 1), (0.1, 0), (0.35, 2), (0.5, 2)], id="10 a second"),
        pytest.param(10, [(0, 10), (1, 10), (100, 10), (100, 0)], id="never more than a second's worth"),
        pytest.param(80, [(0, 80), (0.0125, 1), (0.5, 39)], id="80 a second"),
        pytest.param(0.5, [(0, 1), (1, 0), (2, 1), (10, 1)], id="one in two seconds"),
        pytest.param(1.5, [(0, 1), (0.5, 1), (1, 1), (1.5, 0), (2, 1)], id="fractions add up"),
        pytest.param(10, [(5, 10), (4, 0), (5, 0), (5.1, 1)], id="a clock that goes back gives nothing"),
        pytest.param(10, [(-3, 10), (-2.9, 1)], id="a clock may begin anywhere"),
    ],
)
def test_e9_so_many_may_go(rate: float, looks: list[tuple[float, int]]) -> None:
    rates = Rates()
    assert [taken(rates, ONE, rate, now) for now, _ in looks] == [count for _, count in looks]


def test_e9_over_any_stretch_of_time_the_rate_holds() -> None:
    rates = Rates()
    assert sum(taken(rates, ONE, 10, step / 100) for step in range(1001)) == 10 + 100


def test_e9_each_sender_has_its_own() -> None:
    rates = Rates()
    assert taken(rates, ONE, 3, 0) == 3
    assert rates.waiting(0) == [ONE]
    assert taken(rates, OTHER, 5, 0) == 5
    assert sorted(rates.waiting(0)) == [ONE, OTHER]
    assert rates.waiting(0.2) == [ONE]
    assert rates.waiting(1) == []


def test_e9_another_rate_counts_from_now_on() -> None:
    rates = Rates()
    assert taken(rates, ONE, 2, 0) == 2
    assert taken(rates, ONE, 10, 0.5) == 1
    assert taken(rates, ONE, 10, 1) == 5
    assert taken(rates, ONE, 2, 10) == 2


def test_e9_what_did_not_go_is_put_back() -> None:
    rates = Rates()
    first, second = take(rates, 0, rate=2), take(rates, 0, rate=2)
    assert rates.take(place(rate=2), 0) is None
    rates.put_back(first)
    rates.put_back(first)  # once
    assert taken(rates, ONE, 2, 0) == 1
    rates.put_back(second)
    assert taken(rates, ONE, 2, 0) == 1


def test_e9_what_took_more_requests_than_one_is_paid_for() -> None:
    rates = Rates()
    ticket = take(rates, 0, rate=2)
    rates.spend(ticket, 2)
    assert [taken(rates, ONE, 2, now) for now in (0, 0.5, 1, 1.5)] == [0, 0, 1, 1]


# Throttling ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("asked", "stands"), [(0, 1), (0.5, 0.5), (7, 7), (60, 60), (3600, LONGEST_PAUSE)])
def test_e9_a_throttled_sender_stands_still_as_a_whole(asked: float, stands: float) -> None:
    rates = Rates()
    ticket = take(rates, 0)
    take(rates, 0, OTHER)
    rates.throttled(ticket, "sender", asked, 0)
    assert rates.waiting(0) == [ONE]
    assert rates.take(place(), stands - 0.01) is None
    assert rates.take(place(OTHER), stands - 0.01)
    assert rates.waiting(stands - 0.01) == [ONE]
    assert rates.take(place(), stands)


def test_e9_after_a_pause_one_message_tells_how_it_goes_on() -> None:
    """The pause doubles while the provider still throttles; what is in between tells nothing."""
    rates, now, pauses = Rates(), 0.0, []
    rates.throttled(take(rates, now), "sender", 0, now)
    for _ in range(8):
        began = now
        while (ticket := rates.take(place(), now)) is None:
            now += 0.25
        assert rates.take(place(), now + 100) is None, "one at a time"
        rates.let_go(ticket)  # its outcome is unknown: the next one tells
        ticket = take(rates, now + 1)
        pauses.append(now - began)
        rates.throttled(ticket, "sender", 0, now)
    assert pauses == [1, 2, 4, 8, 16, 32, LONGEST_BACKOFF, LONGEST_BACKOFF]
    now += LONGEST_BACKOFF
    rates.went_through(take(rates, now))
    rates.throttled(take(rates, now + 60), "sender", 0, now + 60)
    assert rates.take(place(), now + 60.9) is None
    assert rates.take(place(), now + 61), "from the beginning"


def test_e9_what_was_with_the_provider_together_is_throttled_once() -> None:
    rates = Rates()
    tickets = [take(rates, 0) for _ in range(10)]
    rates.went_through(tickets[0])
    for ticket in tickets[1:9]:
        rates.throttled(ticket, "sender", 0, 0.1)
    rates.went_through(tickets[9])  # it was there before, and says nothing of now
    assert rates.take(place(), 1) is None
    probe = take(rates, 1.1)
    assert rates.take(place(), 2) is None
    rates.throttled(probe, "sender", 0, 1.1)
    assert rates.take(place(), 3.0) is None
    assert rates.take(place(), 3.1)


def test_e9_the_longest_that_is_asked_for_counts() -> None:
    rates = Rates()
    tickets = [take(rates, 0) for _ in range(3)]
    for ticket, asked in zip(tickets, (5, 30, 0), strict=True):
        rates.throttled(ticket, "sender", asked, 0)
    assert rates.take(place(), 29.9) is None
    assert rates.take(place(), 30)


def test_e9_a_throttled_sender_is_slower_and_recovers_little_by_little() -> None:
    rates = Rates()
    rates.throttled(take(rates, 0, rate=60), "sender", 0, 0)
    counts = [sum(taken(rates, ONE, 60, 1 + step + part / 100) for part in range(100)) for step in range(46)]
    assert counts[0] == pytest.approx(31, abs=2)
    assert all(later >= sooner - 1 for sooner, later in pairwise(counts[1:]))
    assert counts[15] == pytest.approx(45, abs=2)
    assert counts[40] == pytest.approx(60, abs=1)


def test_e9_a_rate_is_lowered_only_so_far() -> None:
    rates, now = Rates(), 0.0
    for _ in range(40):
        rates.went_through(take(rates, now, rate=64))
        while (ticket := rates.take(place(rate=64), now)) is None:
            now += 0.5
        rates.throttled(ticket, "sender", 0, now)
        now += 1
    rates.went_through(take(rates, now, rate=64))
    assert 2 <= sum(taken(rates, ONE, 64, now + part / 10) for part in range(1, 11)) <= 8


def test_e9_one_that_only_tries_lowers_no_rate() -> None:
    rates, now = Rates(), 0.0
    for _ in range(10):
        rates.throttled(take(rates, now), "sender", 0, now)
        now += LONGEST_BACKOFF
    rates.went_through(take(rates, now))
    assert sum(taken(rates, ONE, 10, now + part / 10) for part in range(1, 11)) >= 5


def test_e9_a_pair_that_is_throttled_stops_nobody_else() -> None:
    rates = Rates()
    one = take(rates, 0, contact=MIA, is_paired=True)
    rates.throttled(one, "pair", 0, 0)
    assert rates.take(place(contact=MIA, is_paired=True), PAIR_PAUSE - 0.1) is None
    assert rates.waiting(0) == []
    assert rates.waiting_pairs(0) == [(ONE, MIA)]
    assert rates.take(place(contact=BEN, is_paired=True), 0)
    assert rates.take(place(OTHER, contact=MIA, is_paired=True), 0)
    assert taken(rates, ONE, 10, 0) == 9, "the sender's rate is what it was"
    assert rates.waiting_pairs(PAIR_PAUSE) == []
    probe = take(rates, PAIR_PAUSE, contact=MIA, is_paired=True)
    rates.throttled(probe, "pair", 0, PAIR_PAUSE)
    assert rates.take(place(contact=MIA, is_paired=True), PAIR_PAUSE * 3 - 0.1) is None
    assert rates.take(place(contact=MIA, is_paired=True), PAIR_PAUSE * 3)


def test_e9_a_pair_of_a_medium_without_a_rate_for_pairs_waits_too() -> None:
    rates = Rates()
    rates.throttled(take(rates, 0, contact=MIA), "pair", 20, 0)
    assert rates.take(place(contact=MIA), 19.9) is None
    assert rates.take(place(contact=MIA), 20)


def test_e9_without_a_known_customer_the_sender_waits() -> None:
    rates = Rates()
    rates.throttled(take(rates, 0), "pair", 0, 0)
    assert rates.waiting(0) == [ONE]


def test_e9_an_account_that_is_throttled_stops_all_its_senders() -> None:
    rates = Rates()
    take(rates, 0, OTHER)
    take(rates, 0, 3, provider="twilio")
    rates.throttled(take(rates, 0), "account", 3, 0)
    assert sorted(rates.waiting(2.9)) == [ONE, OTHER]
    assert rates.take(place(4), 2.9) is None, "those that were never seen, too"
    assert rates.take(place(3, provider="twilio"), 2.9)
    probe = take(rates, 3, OTHER)
    assert rates.take(place(), 3) is None
    rates.went_through(probe)
    assert taken(rates, ONE, 10, 3) == 10


def test_e9_what_is_taken_for_spam_rests_longer() -> None:
    rates = Rates()
    rates.throttled(take(rates, 0), "sender", 0, 0, is_spam=True)
    assert rates.take(place(), SPAM_PAUSE - 0.1) is None
    rates.throttled(take(rates, SPAM_PAUSE), "sender", 0, SPAM_PAUSE, is_spam=True)
    assert rates.take(place(), SPAM_PAUSE * 3 - 0.1) is None
    assert rates.take(place(), SPAM_PAUSE * 3)


def test_e9_a_customer_gets_a_burst_and_then_one_message_in_six_seconds() -> None:
    rates = Rates()
    mine: dict[str, Any] = {"contact": MIA, "is_paired": True}
    assert taken(rates, ONE, 1000, 0, **mine) == PAIR_BURST
    assert [taken(rates, ONE, 1000, now, **mine) for now in (5.9, 6, 11.9, 12, 60)] == [0, 1, 0, 1, 8]
    assert taken(rates, ONE, 1000, 60, contact=BEN, is_paired=True) == PAIR_BURST
    assert taken(rates, ONE, 1000, 60, contact=MIA) == 0, "whoever it is for"
    assert taken(rates, ONE, 1000, 1000, **mine) == PAIR_BURST


def test_e9_pairs_that_rest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.domain.rates._REMEMBERED", 10)
    rates = Rates()
    busy: Pair = (ONE, MIA)
    for step in range(100):
        rates.take(place(rate=1000, contact=uuid4(), is_paired=True), step * 10)
        rates.take(place(rate=1000, contact=MIA, is_paired=True), step * 10)
        assert len(rates._pairs) <= 20
    assert busy in rates._pairs


ANSWERS = st.sampled_from(["taken", "throttled", "pair", "account", "unknown", "refused at the claim"])


@given(st.lists(st.tuples(ANSWERS, st.floats(0, 3), st.integers(0, 3)), max_size=60))
def test_e9_whatever_is_answered_it_goes_on(answers: list[tuple[str, float, int]]) -> None:
    """Nothing stands still for ever, no rate is exceeded, and nothing goes while it is to stand still."""
    rates, now, flying, went = Rates(), 0.0, [], []
    for answer, passed, which in answers:
        now += passed
        is_kept = bool(rates.waiting(now) or rates.waiting_pairs(now))
        if ticket := rates.take(place(contact=MIA, is_paired=True), now):
            assert not is_kept
            went.append(now)
            flying.append(ticket)
        if which < len(flying):
            settle(rates, flying.pop(which), answer, now)
    for ticket in flying:
        rates.let_go(ticket)
    for began in went:
        assert sum(began <= at <= began + 1 for at in went) <= 21
    assert rates.take(place(contact=MIA, is_paired=True), now + LONGEST_BACKOFF)


def settle(rates: Rates, ticket: Ticket, answer: str, now: float) -> None:
    match answer:
        case "taken":
            rates.went_through(ticket)
        case "unknown":
            rates.let_go(ticket)
        case "refused at the claim":
            rates.put_back(ticket)
        case "pair" | "account":
            rates.throttled(ticket, answer, 0, now)
        case _:
            rates.throttled(ticket, "sender", 0, now)


# Slots --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "first", "others"),
    [
        pytest.param(20, 15, [3, 1, 1, 0], id="twenty"),
        pytest.param(4, 3, [1, 0], id="four"),
        pytest.param(2, 1, [1, 0], id="two"),
        pytest.param(1, 1, [0], id="one"),
    ],
)
def test_e9_no_sender_takes_every_slot(total: int, first: int, others: list[int]) -> None:
    slots = Slots(total)
    assert sum(slots.take(ONE) for _ in range(30)) == first
    assert slots.full() == [ONE]
    for sender, most in enumerate(others, OTHER):
        assert sum(slots.take(sender) for _ in range(30)) == most
    slots.put_back(ONE)
    assert slots.take(OTHER + len(others))  # somebody new comes first


def test_e9_busy_senders_come_to_share_alike() -> None:
    """Each gives a slot back in turn, and both want more."""
    slots = Slots(20)
    for sender in (ONE, OTHER):
        while slots.take(sender):
            pass
    held = {ONE: 15, OTHER: 3}
    for _ in range(50):
        for sender in (ONE, OTHER):
            slots.put_back(sender)
            held[sender] -= 1
            for wanting in (OTHER, ONE):
                while slots.take(wanting):
                    held[wanting] += 1
    assert abs(held[ONE] - held[OTHER]) <= 2, held
