"""When to try again (rules E8, G3)."""

import random

from hypothesis import given
from hypothesis import strategies as st

from hub.domain.backoff import DELIVERY_SCHEDULE, JITTER, SEND_SCHEDULE, delay

DAY = 86_400.0
schedules = st.sampled_from([DELIVERY_SCHEDULE, SEND_SCHEDULE, (1.0,)])


@given(schedules, st.integers(1, 50), st.integers())
def test_a_delay_is_its_step_give_or_take_a_fifth_and_then_none(
    schedule: tuple[float, ...], attempts: int, seed: int
) -> None:
    wait = delay(schedule, attempts, random.Random(seed))
    if attempts > len(schedule):
        assert wait is None
    else:
        assert wait is not None
        assert (1 - JITTER) * schedule[attempts - 1] <= wait <= (1 + JITTER) * schedule[attempts - 1]


def test_delays_are_spread() -> None:
    source = random.Random(1)
    assert len({delay(SEND_SCHEDULE, 1, source) for _ in range(50)}) > 40


def test_g3_a_conversation_is_retried_over_about_three_days() -> None:
    assert 2.5 * DAY < sum(DELIVERY_SCHEDULE) < 4 * DAY
    assert list(DELIVERY_SCHEDULE) == sorted(DELIVERY_SCHEDULE)


def test_e8_a_message_not_taken_is_retried_soon_and_well_within_the_hour_of_an_agent_s_reply() -> None:
    assert SEND_SCHEDULE[0] <= 2
    assert sum(SEND_SCHEDULE) * (1 + JITTER) < 3600
