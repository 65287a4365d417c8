"""How often somebody may ask (rule H4): so many a second, each by themselves."""

import pytest

from hub.http.pace import Pace


def test_each_asker_has_a_burst_and_a_rate() -> None:
    pace = Pace(10)
    assert [pace.take("mia", 5.0) for _ in range(12)] == [True] * 10 + [False] * 2
    assert pace.take("ben", 5.0)
    assert [pace.take("mia", 5.25) for _ in range(3)] == [True, True, False]
    assert [pace.take("mia", 1000.0) for _ in range(11)] == [True] * 10 + [False]


def test_a_clock_that_stands_still_or_goes_back_adds_nothing() -> None:
    pace = Pace(1)
    assert [pace.take("mia", at) for at in (5.0, 5.0, 4.0, 5.9, 6.0)] == [True, False, False, False, True]


def test_those_that_were_silent_for_longest_are_forgotten_first() -> None:
    pace = Pace(1, most=2)
    assert pace.take("mia", 5.0)
    assert pace.take("ben", 5.0)
    assert not pace.take("mia", 5.0)
    assert pace.take("carl", 5.0)
    assert not pace.take("mia", 5.0)
    assert pace.take("ben", 5.0)


def test_a_burst_may_be_larger_than_a_second_of_the_rate() -> None:
    logins = Pace(10 / 60, burst=10)
    assert [logins.take("mia", 5.0) for _ in range(11)] == [True] * 10 + [False]
    assert [logins.take("mia", 5.0 + seconds) for seconds in (5.9, 6.0, 6.1, 12.0)] == [False, True, False, True]
    assert [logins.take("mia", 600.0) for _ in range(11)] == [True] * 10 + [False]


@pytest.mark.parametrize(
    ("taken", "later", "wait"),
    [
        (0, 0.0, 0.0),
        (3, 0.0, 0.0),
        (4, 0.0, 0.25),
        (9, 0.0, 0.25),
        (4, 0.2, 0.05),
        (4, 0.25, 0.0),
        (4, -1.0, 0.25),
    ],
)
def test_it_tells_how_long_to_wait(taken: int, later: float, wait: float) -> None:
    pace = Pace(4)
    for _ in range(taken):
        pace.take("mia", 5.0)
    assert pace.wait_of("mia", 5.0 + later) == pytest.approx(wait)
    assert pace.wait_of("ben", 5.0 + later) == 0
    assert pace.take("mia", 5.0 + later) == (wait == 0), "asking how long it is does not count"
