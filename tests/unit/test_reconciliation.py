"""Which part of a provider's list is compared (rule B3), and places in a timeline by time (rule C3)."""

from datetime import UTC, datetime, timedelta

import pytest

from hub.domain.errors import Invalid
from hub.domain.reconciliation import GRACE, OVERLAP, span
from hub.domain.time_places import END, START, TimePlace, decode, encode

NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
WEEK = timedelta(days=7)
LONG_AGO = NOW - timedelta(days=60)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("begun_at", "until", "since"),
    [
        pytest.param(LONG_AGO, NOW - HOUR, NOW - HOUR - OVERLAP, id="from before the last comparison"),
        pytest.param(NOW - HOUR, NOW - HOUR, NOW - HOUR, id="never before it began"),
        pytest.param(LONG_AGO, NOW - timedelta(days=30), NOW - WEEK, id="not further back than was said"),
        pytest.param(LONG_AGO, NOW - WEEK, NOW - WEEK, id="the overlap neither"),
        pytest.param(LONG_AGO, NOW + HOUR, NOW + HOUR - OVERLAP, id="a clock that was set back asks for nothing"),
    ],
)
def test_b3_what_is_asked_for(begun_at: datetime, until: datetime, since: datetime) -> None:
    assert span(begun_at, until, NOW, WEEK) == (since, max(NOW - GRACE, since))


PLACES = [
    TimePlace(NOW, 7),
    TimePlace(NOW + timedelta(microseconds=1), 1),
    TimePlace(datetime(1969, 12, 31, tzinfo=UTC), 0),
    TimePlace(NOW, -12),
    START,
    END,
]


@pytest.mark.parametrize("place", PLACES, ids=["now", "later", "before 1970", "history", "start", "end"])
def test_c3_a_place_is_read_back(place: TimePlace) -> None:
    assert decode(encode(place)) == place


def test_c3_another_word_is_refused() -> None:
    good = encode(PLACES[0])
    beyond = "f" * 27
    for word in ("x", "7", "é", good[:-1], good + "A", good[:-4] + "AAAA", good.swapcase(), good + "=", beyond):
        with pytest.raises(Invalid) as refusal:
            decode(word)
        assert refusal.value.code == "invalid_cursor", word
