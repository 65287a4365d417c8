"""How often somebody without a key may ask: so many a second, each by themselves."""

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
