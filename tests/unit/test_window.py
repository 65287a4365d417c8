"""The reply window of WhatsApp (rule E4)."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.domain.window import MARGIN, REPLY_WINDOW, expires_at, is_open

LAST = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(hours=24)


def test_e4_the_window_is_24_hours_from_the_customer_s_last_message() -> None:
    assert DAY == REPLY_WINDOW
    assert expires_at("whatsapp", LAST) == LAST + DAY
    assert expires_at("whatsapp", None) is None
    assert expires_at("sms", LAST) is None


@pytest.mark.parametrize(
    ("elapsed", "answer"),
    [
        (timedelta(0), True),
        (timedelta(hours=23), True),
        (DAY - MARGIN - timedelta(microseconds=1), True),
        (DAY - MARGIN, False),
        (DAY, False),
        (timedelta(days=400), False),
        (timedelta(minutes=-5), True),
    ],
)
def test_e4_it_closes_with_a_margin(elapsed: timedelta, answer: bool) -> None:
    assert is_open("whatsapp", LAST, LAST + elapsed) is answer


def test_e4_the_margin_is_there_and_small() -> None:
    assert timedelta(seconds=5) <= MARGIN <= timedelta(minutes=5)


@given(st.datetimes(timezones=st.just(UTC)) | st.none(), st.datetimes(timezones=st.just(UTC)))
def test_e4_sms_has_no_window(last: datetime | None, now: datetime) -> None:
    assert is_open("sms", last, now)
    assert expires_at("sms", last) is None


@given(st.timedeltas(timedelta(0), timedelta(days=3)))
def test_e4_open_implies_not_expired(elapsed: timedelta) -> None:
    closes = expires_at("whatsapp", LAST)
    assert closes is not None
    if is_open("whatsapp", LAST, LAST + elapsed):
        assert LAST + elapsed < closes


def test_e4_nobody_wrote_nothing_is_open() -> None:
    assert not is_open("whatsapp", None, LAST)
