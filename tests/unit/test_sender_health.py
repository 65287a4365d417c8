"""How a sender's problems come and go, and what its state is then."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from hub.domain.sender_health import (
    CODES,
    DOWN,
    FADING,
    Health,
    News,
    Source,
    health_view,
    is_worth_telling,
    news_of_check,
    news_of_failed_check,
    news_of_refusal,
    news_of_success,
    take,
    take_notice,
)

T = datetime(2026, 11, 2, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def told(*codes: str, at: datetime = T, source: Source = "webhook", **facts: str) -> Health:
    return take(Health(), News(source, dict.fromkeys(codes, "why"), facts=facts), at)


@pytest.mark.parametrize(
    ("codes", "state"),
    [
        ((), "ok"),
        (("quality_low",), "degraded"),
        (("callbacks_silent", "throttled"), "degraded"),
        (("something_new",), "degraded"),
        (("token_revoked",), "down"),
        (("quality_red", "account_restricted"), "down"),
    ],
)
def test_the_worst_problem_makes_the_state(codes: tuple[str, ...], state: str) -> None:
    assert told(*codes).state == state


def test_every_code_is_named_once() -> None:
    assert len(set(CODES)) == len(CODES)
    assert set(CODES) >= DOWN


REFUSALS: Mapping[str, tuple[str, str | None, str | None, str | None]] = {
    "token": ("token_revoked", "190", None, "token_revoked"),
    "permission": ("permission_denied", "10", None, "permission_missing"),
    "permission for a country": ("permission_denied", "21408", None, None),
    "permission for calls": ("permission_denied", "138000", None, None),
    "not registered with a carrier": ("sender_not_registered", "30024", None, None),
    "restricted": ("account_restricted", "131031", None, "account_restricted"),
    "restricted in a country": ("account_restricted", "130497", None, None),
    "not registered": ("sender_not_registered", "133010", None, "sender_not_registered"),
    "unpaid": ("payment_required", "131042", None, "payment_required"),
    "throttled": ("throttled", "130429", "sender", "throttled"),
    "throttled account": ("throttled", "20429", "account", "throttled"),
    "throttled pair": ("throttled", "131056", "pair", None),
    "of the customer": ("bad_recipient", "131026", None, None),
    "of the message": ("invalid_content", "100", None, None),
}


@pytest.mark.parametrize(("code", "provider_code", "scope", "problem"), REFUSALS.values(), ids=REFUSALS)
def test_what_a_refusal_says_of_the_sender(
    code: str, provider_code: str | None, scope: str | None, problem: str | None
) -> None:
    news = news_of_refusal(code, provider_code, scope)
    assert (set(news.raises) if news else set()) == ({problem} if problem else set())
    assert news is None or news.source == "send"


def test_what_is_said_again_keeps_its_beginning_and_costs_nothing_within_a_minute() -> None:
    news = News("send", {"token_revoked": "again"})
    before = told("token_revoked")
    assert take(before, news, T + timedelta(seconds=30)) is before
    after = take(before, news, T + 2 * MINUTE)
    problem = after.problems["token_revoked"]
    assert (problem.since, problem.seen, problem.detail, problem.source) == (T, T + 2 * MINUTE, "again", "send")
    assert not is_worth_telling(before, after)


def test_a_success_clears_what_it_disproves() -> None:
    before = told(*DOWN, "unreachable", "quality_red", "limit_reached", "callbacks_silent", "fields_missing")
    after = take(before, news_of_success(before, T), T)
    assert set(after.problems) == {"quality_red", "limit_reached", "callbacks_silent", "fields_missing"}
    assert is_worth_telling(before, after)
    assert take(after, news_of_success(after, T), T) is after


@pytest.mark.parametrize("source", ["check", "report"])
def test_a_success_does_not_make_what_is_found_again_and_again_come_and_go(source: Source) -> None:
    """Meta takes a message of a business that has not paid, and reports it as failed a moment later."""
    health = told("payment_required", source=source)
    for minutes in range(10, 60, 10):
        now = T + minutes * MINUTE
        assert take(health, news_of_success(health, now), now) is health
        health = take(health, News(source, {"payment_required": "why"}), now)
    paid = T + 80 * MINUTE
    assert take(health, news_of_success(health, paid), paid).state == "ok"


def test_throttling_lasts_a_while() -> None:
    before = told("throttled", source="send")
    for minutes, by_success, by_check in ((1, False, False), (6, True, False), (11, True, True)):
        now = T + minutes * MINUTE
        assert ("throttled" not in take(before, news_of_success(before, now), now).problems) is by_success
        checked = take(before, news_of_check(before, {}, (), {}, now), now)
        assert ("throttled" not in checked.problems) is by_check


def test_a_check_clears_what_it_judged_whoever_raised_it() -> None:
    before = told("token_revoked", "quality_low", "callbacks_silent", "unreachable", "account_restricted")
    judged = {"token_revoked", "quality_low", "fields_missing"}
    news = news_of_check(before, {"fields_missing": "subscribe"}, judged, {"quality": "green"}, T)
    after = take(before, news, T)
    assert set(after.problems) == {"fields_missing", "callbacks_silent", "account_restricted"}
    assert after.problems["fields_missing"].source == "check"
    assert after.facts == {"quality": "green"}


@pytest.mark.parametrize(
    ("code", "failures", "problem"),
    [
        ("token_revoked", 1, "token_revoked"),
        ("account_restricted", 1, "account_restricted"),
        ("permission_denied", 1, "permission_missing"),
        ("provider_unavailable", 1, None),
        ("provider_unavailable", 2, "unreachable"),
        ("throttled", 1, None),
        ("throttled", 2, "unreachable"),
    ],
)
def test_what_a_failed_check_says(code: str, failures: int, problem: str | None) -> None:
    news = news_of_failed_check(code, None, "it is so", failures)
    assert (list(news.raises) if news else []) == ([problem] if problem else [])


def test_older_notices_of_a_topic_change_nothing() -> None:
    red, green = News("webhook", {"quality_red": "red"}), News("webhook", clears={"quality_red"})
    health = take_notice(Health(), "quality", green, T, T)
    assert take_notice(health, "quality", red, T - MINUTE, T) is health
    assert take_notice(health, "account", red, T - MINUTE, T).problems["quality_red"].since == T - MINUTE
    again = take_notice(health, "quality", red, T, T)
    assert again.state == "degraded"
    assert take_notice(again, "quality", green, None, T + MINUTE).state == "ok"
    assert take_notice(Health(), "quality", red, T + MINUTE, T).problems["quality_red"].since == T  # of the future


@pytest.mark.parametrize(
    ("before", "after", "is_told"),
    [
        ({"quality": "green"}, {"quality": "green", "name": "Shop"}, False),
        ({"quality": "green"}, {"quality": "yellow"}, True),
        ({"messaging_limit": "TIER_1K"}, {"messaging_limit": "TIER_10K"}, True),
        ({}, {"quality": "green", "messaging_limit": "TIER_1K"}, False),
    ],
)
def test_which_facts_are_told(before: dict[str, str], after: dict[str, str], is_told: bool) -> None:
    assert is_worth_telling(Health(facts=before), Health(facts=after)) is is_told


def test_facts_go_with_the_problem_they_explain() -> None:
    before = told("quality_red", "account_limited", quality="red", restrictions="all", messaging_limit="tier_1k")
    after = take(before, News("webhook", clears={"quality_red"}), T)
    assert after.facts == {"restrictions": "all", "messaging_limit": "tier_1k"}
    after = take(before, News("webhook", clears={"quality_red", "account_limited"}, facts={"quality": "green"}), T)
    assert after.facts == {"quality": "green", "messaging_limit": "tier_1k"}
    after = take(before, News("webhook", {"quality_low": "so"}, {"quality_red"}, {"quality": "yellow"}), T)
    assert (set(after.problems), after.facts["quality"]) == ({"quality_low", "account_limited"}, "yellow")


@pytest.mark.parametrize("code", FADING)
def test_what_nobody_withdraws_fades(code: str) -> None:
    before = told(code)
    for age, is_over in ((FADING[code] - MINUTE, False), (FADING[code], True)):
        after = take(before, news_of_check(before, {}, (), {}, T + age), T + age)
        assert (code not in after.problems) is is_over


def test_services_see_no_accounts_and_addresses() -> None:
    health = told("fields_missing", "account_restricted", quality="red", webhook_url="https://elsewhere.example")
    restricted = {"code": "account_restricted", "detail": "why", "since": T}
    seen = health_view(health)
    assert (seen["state"], seen["problems"][0], seen["facts"]) == ("down", restricted, {"quality": "red"})
    assert seen["problems"][1]["detail"].endswith("its operator sees what is missing.")
    full = health_view(health, in_full=True)
    assert full["problems"] == [restricted, {"code": "fields_missing", "detail": "why", "since": T}]
    assert full["facts"] == health.facts
    for code in ("permission_missing", "security_alert", "two_step_pin_off", "webhook_elsewhere", "unreachable"):
        assert health_view(told(code))["problems"][0]["detail"] != "why"
