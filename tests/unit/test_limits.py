"""What people can write (rule E3)."""

from datetime import UTC, datetime, timedelta

import pytest

from hub.domain.limits import HOUR, MINUTE, Limit, Limits, agent_limit, check_limit, opening_limit, service_limit

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_e3_the_rule_s_numbers_are_the_defaults() -> None:
    limits = [agent_limit(Limits()), service_limit(Limits()), opening_limit(Limits())]
    assert [(limit.most, limit.window) for limit in limits] == [(30, MINUTE), (300, MINUTE), (20, HOUR)]
    assert [limit.name for limit in limits] == ["agent", "service", "new_conversations"]


@pytest.mark.parametrize(
    ("ago", "wait"),
    [
        pytest.param(None, None, id="fewer than that so far"),
        pytest.param(timedelta(0), 60, id="just now"),
        pytest.param(timedelta(seconds=-2), 62, id="by a clock that is ahead"),
        pytest.param(timedelta(seconds=1), 59, id="a second ago"),
        pytest.param(timedelta(seconds=30.5), 30, id="rounded up"),
        pytest.param(timedelta(seconds=59.999), 1, id="nearly over: never nought"),
        pytest.param(timedelta(seconds=60), None, id="over"),
        pytest.param(timedelta(hours=2), None, id="long ago"),
    ],
)
def test_e3_one_more_waits_until_the_oldest_is_out_of_the_window(ago: timedelta | None, wait: int | None) -> None:
    limit = Limit("agent", "messages", 30, MINUTE)
    refusal = check_limit(limit, None if ago is None else NOW - ago, NOW)
    if wait is None:
        assert refusal is None
        return
    assert refusal is not None
    assert (refusal.status, refusal.code) == (429, "looks_automated")
    assert refusal.facts == {"limit": "agent", "most": 30, "retry_after": wait}
    assert "(rule E3)" in refusal.detail
    assert f"{wait} s" in refusal.detail


def test_e3_nought_is_no_limit() -> None:
    assert check_limit(Limit("agent", "messages", 0, MINUTE), NOW, NOW) is None
