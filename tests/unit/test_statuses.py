"""Statuses move forward only, and every order of the same reports ends in one state (rules E7, E8)."""

from collections.abc import Sequence
from itertools import combinations_with_replacement, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.domain.statuses import ORDER, advance

PROVIDER = ("sent", "delivered", "read", "failed")
REPORTS = ("sending", "unknown", "cancelled", *PROVIDER, "accepted", "")
"""What may be reported of a message; the last two stand for words that are recorded only."""


def play(reports: Sequence[str]) -> tuple[str, bool]:
    """A message from `queued` through these reports."""
    status, is_conflict = "queued", False
    for reported in reports:
        move = advance(status, reported, is_conflict=is_conflict)
        assert move.is_change is ((move.status, move.conflict) != (status, is_conflict))
        status, is_conflict = move.status, move.conflict
    return status, is_conflict


def by_the_rule(reports: Sequence[str]) -> tuple[str, bool]:
    """What E7 says of a set of reports, whatever their order."""
    ranking = ("read", "delivered", "failed", "sent", "cancelled", "unknown", "sending")
    status = next((name for name in ranking if name in reports), "queued")
    return status, "failed" in reports and ("delivered" in reports or "read" in reports)


@given(st.lists(st.sampled_from(REPORTS), max_size=5))
def test_e7_every_permutation_of_any_reports_ends_in_one_state(reports: list[str]) -> None:
    assert {play(order) for order in permutations(reports)} == {by_the_rule(reports)}


@given(st.lists(st.sampled_from(REPORTS), max_size=40), st.randoms(use_true_random=False))
def test_e7_long_histories_too(reports: list[str], random: object) -> None:
    shuffled = list(reports)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert play(shuffled) == by_the_rule(reports)


@given(st.lists(st.sampled_from(REPORTS), min_size=1, max_size=8), st.data())
def test_e7_a_report_repeated_anywhere_later_changes_nothing(reports: list[str], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(reports) - 1))
    later = data.draw(st.integers(place + 1, len(reports)))
    assert play([*reports[:later], reports[place], *reports[later:]]) == play(reports)


@given(st.sampled_from([*ORDER, "cancelled"]), st.sampled_from(REPORTS), st.booleans())
def test_e7_a_status_never_goes_back_and_a_conflict_never_goes_away(current: str, reported: str, flag: bool) -> None:
    move = advance(current, reported, is_conflict=flag)
    assert move.conflict >= flag
    if current in ORDER and move.status in ORDER:
        assert ORDER[move.status] >= ORDER[current]


@pytest.mark.parametrize("reported", PROVIDER)
def test_e7_any_provider_status_replaces_unknown(reported: str) -> None:
    move = advance("unknown", reported)
    assert (move.status, move.conflict, move.is_change) == (reported, False, True)


@pytest.mark.parametrize("current", ["queued", "sending", "unknown"])
def test_e7_cancelled_is_reached_while_nothing_was_taken_for_certain(current: str) -> None:
    assert advance(current, "cancelled").status == "cancelled"


@pytest.mark.parametrize("current", PROVIDER)
def test_e7_what_the_provider_has_is_not_cancelled(current: str) -> None:
    move = advance(current, "cancelled")
    assert (move.status, move.is_change) == (current, False)


@pytest.mark.parametrize("ours", ["queued", "sending", "unknown"])
def test_e7_cancelled_is_final_but_for_the_provider(ours: str) -> None:
    assert advance("cancelled", ours).status == "cancelled"


@pytest.mark.parametrize("received", ["delivered", "read"])
def test_e7_delivered_or_read_beats_failed_in_either_order(received: str) -> None:
    assert play(["failed", received]) == (received, True)
    assert play([received, "failed"]) == (received, True)


def test_e8_unknown_never_replaces_what_the_provider_said() -> None:
    for current in PROVIDER:
        assert advance(current, "unknown").status == current


# Ours and the provider's: its word for having a message, and no more, is `sending`, too ----------------------------

OURS = ("sending", "unknown", "failed", "cancelled")
THEIRS = ("sending", "sent", "delivered", "read", "failed", "cancelled", "deleted")
"""What a provider says tells the message's id, even where it tells nothing of its status (the last one)."""
TOLD = [*((word, False) for word in OURS), *((word, True) for word in THEIRS)]
Told = tuple[str, bool]


def play_both(reports: Sequence[Told]) -> tuple[str, bool]:
    """A message through reports of both, the provider's id known from the first of its own on."""
    status, is_conflict, is_known = "queued", False, False
    for reported, is_theirs in reports:
        is_known |= is_theirs
        move = advance(status, reported, is_conflict=is_conflict, is_known=is_known)
        assert move.is_change is ((move.status, move.conflict) != (status, is_conflict))
        status, is_conflict = move.status, move.conflict
    return status, is_conflict


def by_the_rule_of_both(reports: Sequence[Told]) -> tuple[str, bool]:
    """Where the provider spoke at all, our own unknown tells no more than that we tried."""
    is_known = any(is_theirs for _, is_theirs in reports)
    return by_the_rule(["sending" if word == "unknown" and is_known else word for word, _ in reports])


def test_e7_every_order_of_our_reports_and_the_provider_s_ends_in_one_state() -> None:
    for count in range(1, 5):
        for reports in combinations_with_replacement(TOLD, count):  # repeats among them
            assert {play_both(order) for order in set(permutations(reports))} == {by_the_rule_of_both(reports)}


@given(st.lists(st.sampled_from(TOLD), max_size=30), st.randoms(use_true_random=False))
def test_e7_long_histories_of_both(reports: list[Told], random: object) -> None:
    shuffled = list(reports)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert play_both(shuffled) == by_the_rule_of_both(reports)


def test_e7_accepted_by_the_provider_replaces_unknown_and_is_not_replaced_by_it() -> None:
    assert play_both([("sending", False), ("unknown", False)]) == ("unknown", False)
    assert play_both([("sending", False), ("unknown", False), ("sending", True)]) == ("sending", False)
    assert play_both([("sending", False), ("sending", True), ("unknown", False)]) == ("sending", False)
    assert play_both([("unknown", False), ("deleted", True)]) == ("sending", False)
