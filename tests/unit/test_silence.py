"""When callbacks are silent, and when a quiet hour is only a quiet hour."""

import math
from datetime import UTC, datetime, timedelta

import pytest

from hub.domain.silence import HOUR, at_most, inbound_silent, statuses_silent, usual_in

LAST = datetime(2026, 11, 18, 14, tzinfo=UTC)
"""The last full hour: a Wednesday afternoon."""
DAY = timedelta(days=1)


def office(days: int, per_hour: int) -> dict[datetime, int | None]:
    """Days up to the hour before the last day's: so much from 8 to 18 on working days, nothing at other times."""
    first = LAST - days * DAY
    hours = [first + n * HOUR for n in range(days * 24 - 23)]
    return {hour: per_hour if 8 <= hour.hour < 18 and hour.weekday() < 5 else 0 for hour in hours}


def then(traffic: dict[datetime, int | None], *came: int | None, last: datetime = LAST) -> dict[datetime, int | None]:
    """The same, with these hours at the end."""
    return traffic | {last - place * HOUR: number for place, number in enumerate(reversed(came))}


@pytest.mark.parametrize(
    ("handed", "answered", "is_silent"), [(0, 0, False), (4, 0, False), (5, 0, True), (5, 1, False), (500, 0, True)]
)
def test_statuses_are_silent_when_none_came_for_any_of_five(handed: int, answered: int, is_silent: bool) -> None:
    said = statuses_silent(handed, answered, LAST if handed else None)
    assert (said is not None) is is_silent
    assert said is None or f"since 2026-11-18 14:00 UTC: the provider took {handed} messages" in said


@pytest.mark.parametrize(
    ("days", "per_hour", "came", "lately", "is_silent"),
    [
        pytest.param(7, 10, (10, 0), 0, True, id="one hour of ten"),
        pytest.param(7, 9, (9, 0), 0, False, id="nine can be chance"),
        pytest.param(7, 9, (0, 0), 0, True, id="twice nine cannot"),
        pytest.param(7, 10, (10, 0), 1, False, id="something came since"),
        pytest.param(7, 10, (0, 1), 0, False, id="something came in the last hour"),
        pytest.param(7, 10, (0, 0, 2, 0), 0, True, id="too few, and nothing lately"),
        pytest.param(7, 2, (0, 0, 0, 0), 0, False, id="two an hour: four hours are no sign"),
        pytest.param(7, 2, (0, 0, 0, 0, 0), 0, True, id="five hours are"),
        pytest.param(20, 10, (10, 0), 0, True, id="as on the same day of the week"),
        pytest.param(2, 100, (0, 0), 0, False, id="two days tell nothing"),
        pytest.param(3, 100, (0, 0), 0, False, id="of three days one was Sunday"),
        pytest.param(7, 10, (None,), 0, False, id="the hub was away"),
        pytest.param(7, 5, (0, None, 0), 0, False, id="the hub was away between"),
        pytest.param(0, 0, (0, 0), 0, False, id="nothing is known"),
    ],
)
def test_inbound_is_silent_against_what_is_usual(
    days: int, per_hour: int, came: tuple[int | None, ...], lately: int, is_silent: bool
) -> None:
    traffic = then(office(days, per_hour), *came)
    if days == 7:  # the days of the week before had no weekend: seven working days
        traffic |= {hour: per_hour for hour in traffic if 8 <= hour.hour < 18 and hour < LAST - 6 * HOUR}
    said = inbound_silent(traffic, LAST, lately)
    assert (said is not None) is is_silent, said


def test_the_answers_to_one_campaign_are_not_what_is_usual() -> None:
    traffic = then(office(20, 1), 1, 0) | {LAST - 7 * DAY: 400}
    assert inbound_silent(traffic, LAST, 0) is None


def test_the_sentence_says_what_was_expected_and_seen() -> None:
    said = inbound_silent(then(office(21, 12), 12, 0), LAST, 0)
    assert said is not None
    assert said.startswith("No messages of customers since 2026-11-18 14:00 UTC, where about 12 are usual.")


@pytest.mark.parametrize("hours", [10, 11, 24 * 3 + 4, 24 * 4])
def test_nights_and_weekends_without_traffic_are_quiet(hours: int) -> None:
    """18:00 is the first hour without usual traffic; three days later it is Saturday, four: Sunday."""
    last = LAST + hours * HOUR
    hour, traffic = LAST - 21 * DAY, {}
    while hour <= last:
        traffic[hour] = 50 if 8 <= hour.hour < 18 and hour.weekday() < 5 else 0
        hour += HOUR
    assert inbound_silent(traffic, last, 0) is None


def test_what_is_usual() -> None:
    assert usual_in({LAST - week * 7 * DAY: came for week, came in ((1, 4), (2, 8))}, LAST) == 4
    assert usual_in({LAST - day * DAY: came for day, came in ((1, 4), (2, 8), (7, 9))}, LAST) == 4
    assert usual_in({LAST - DAY: 4, LAST - 2 * DAY: 8, LAST - 3 * DAY: None}, LAST) is None


@pytest.mark.parametrize(
    ("seen", "expected", "probability"),
    [
        (0, 0.0, 1.0),
        (3, 0.0, 1.0),
        (0, 2.0, math.exp(-2)),
        (1, 2.0, 3 * math.exp(-2)),
        (2, 2.0, 5 * math.exp(-2)),
        (100, 2.0, 1.0),
        (0, 5000.0, 0.0),
    ],
)
def test_poisson(seen: int, expected: float, probability: float) -> None:
    assert at_most(seen, expected) == pytest.approx(probability)
