"""Token buckets under a given clock (rule E9)."""

import pytest

from hub.domain.rates import LONGEST_PAUSE, Rates, Slots

ONE, OTHER = 1, 2


def taken(rates: Rates, sender: int, rate: float, now: float, most: int = 1000) -> int:
    """How many may go at this moment."""
    count = 0
    while count < most and rates.take(sender, rate, now):
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
    assert taken(rates, ONE, 2, 0) == 2
    rates.put_back(ONE)
    assert taken(rates, ONE, 2, 0) == 1
    for _ in range(5):
        rates.put_back(ONE)
    assert taken(rates, ONE, 2, 0) == 2


@pytest.mark.parametrize(("asked", "stands"), [(0.5, 0.5), (7, 7), (60, 60), (3600, LONGEST_PAUSE)])
def test_e9_a_throttled_sender_stands_still_as_a_whole(asked: float, stands: float) -> None:
    rates = Rates()
    assert rates.take(ONE, 10, 0)
    assert rates.take(OTHER, 10, 0)
    rates.pause(ONE, asked, 0)
    assert rates.waiting(0) == [ONE]
    assert not rates.take(ONE, 10, stands - 0.01)
    assert rates.take(OTHER, 10, stands - 0.01)
    assert rates.waiting(stands - 0.01) == [ONE]
    assert taken(rates, ONE, 10, stands) == 10
    rates.pause(ONE, 1, stands)
    rates.pause(ONE, 0, stands)
    assert not rates.take(ONE, 10, stands + 0.99)  # a shorter pause ends no longer one


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
