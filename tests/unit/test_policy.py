"""May this service send this now? (rules E1 to E4, A3, E9)"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from hub.domain.consent import Consent
from hub.domain.errors import Conflict
from hub.domain.ids import public_id
from hub.domain.policy import AUTOMATION, Parent, SendFacts, check_send, check_send_at, may_automate, priority

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ME, OTHER = UUID(int=1), UUID(int=2)
MINE = Parent(ME, "helpdesk", NOW - timedelta(days=3), 5)
THEIRS = Parent(OTHER, "crm", NOW - timedelta(days=3), 5)
PLAIN = sorted(AUTOMATION - {"campaign"})
"""Automation that needs no consent."""
FACTS = SendFacts(
    origin="agent",
    service_id=ME,
    medium="whatsapp",
    channel_kind="shared",
    parent=THEIRS,
    parent_epoch=5,
    claimed_epoch=None,
    last_customer_at=NOW - timedelta(hours=1),
    is_free_form=True,
)


def refused(**changes: object) -> Conflict | None:
    """The refusal against a message with these facts."""
    refusal = check_send(replace(FACTS, **changes), NOW)  # type: ignore[arg-type]
    assert refusal is None or isinstance(refusal, Conflict)
    return refusal


def code(**changes: object) -> str | None:
    refusal = refused(**changes)
    return refusal.code if refusal else None


def test_e1_the_origins_are_those_of_the_rule() -> None:
    assert {"chatbot", "auto_reply", "workflow", "notification", "scheduled", "campaign"} == AUTOMATION


@pytest.mark.parametrize("kind", ["shared", "standalone"])
@pytest.mark.parametrize("parent", [None, MINE, THEIRS])
def test_e3_agents_of_any_service_may_reply(kind: str, parent: Parent | None) -> None:
    assert code(channel_kind=kind, parent=parent) is None


@pytest.mark.parametrize("origin", PLAIN)
def test_e2_the_parent_may_automate(origin: str) -> None:
    assert code(origin=origin, parent=MINE) is None
    assert code(origin=origin, parent=MINE, claimed_epoch=5) is None


@pytest.mark.parametrize("origin", sorted(AUTOMATION))
def test_e2_others_may_not_and_are_told_who_may(origin: str) -> None:
    refusal = refused(origin=origin)
    assert refusal is not None
    assert (refusal.status, refusal.code) == (409, "not_parent")
    assert refusal.facts["parent"] == {
        "service_id": public_id("svc", OTHER),
        "name": "crm",
        "since": THEIRS.since,
        "epoch": 5,
    }
    assert "crm" in refusal.detail


@pytest.mark.parametrize("origin", sorted(AUTOMATION))
def test_e2_nobody_may_where_there_is_no_parent(origin: str) -> None:
    refusal = refused(origin=origin, parent=None)
    assert refusal is not None
    assert (refusal.code, refusal.facts["parent"]) == ("not_parent", None)


@pytest.mark.parametrize("origin", sorted(AUTOMATION))
@pytest.mark.parametrize("epoch", [0, 4, 6])
def test_e2_a_bot_s_reply_from_another_epoch_is_refused(origin: str, epoch: int) -> None:
    assert code(origin=origin, parent=MINE, claimed_epoch=epoch) == "not_parent"


def test_e2_an_agent_s_reply_has_no_epoch() -> None:
    assert code(claimed_epoch=1) is None


@pytest.mark.parametrize("origin", sorted(AUTOMATION))
@pytest.mark.parametrize("parent", [None, MINE, THEIRS])
def test_a3_automation_on_a_standalone_channel_is_refused(origin: str, parent: Parent | None) -> None:
    assert code(origin=origin, channel_kind="standalone", parent=parent) == "number_shared"


@pytest.mark.parametrize("origin", ["agent", *PLAIN])
def test_e4_outside_the_window_free_form_is_refused_and_says_when_it_closed(origin: str) -> None:
    last = NOW - timedelta(hours=24)
    refusal = refused(origin=origin, parent=MINE, last_customer_at=last)
    assert refusal is not None
    assert (refusal.status, refusal.code, refusal.facts["closed_at"]) == (409, "reply_window_closed", NOW)
    assert "template" in refusal.detail


def test_e4_who_never_wrote_has_no_window() -> None:
    refusal = refused(last_customer_at=None)
    assert refusal is not None
    assert (refusal.code, refusal.facts["closed_at"]) == ("reply_window_closed", None)


@pytest.mark.parametrize(
    "changes", [{"medium": "sms", "last_customer_at": None}, {"is_free_form": False, "last_customer_at": None}]
)
def test_e4_neither_sms_nor_templates_need_one(changes: dict[str, object]) -> None:
    assert code(**changes) is None


def test_e2_is_said_before_e4() -> None:
    assert code(origin="chatbot", last_customer_at=None) == "not_parent"


@pytest.mark.parametrize(
    ("kind", "parent", "answer"),
    [
        ("shared", MINE, True),
        ("shared", THEIRS, False),
        ("shared", None, False),
        ("standalone", None, False),
        ("standalone", MINE, False),
    ],
)
def test_a9_may_automate(kind: str, parent: Parent | None, answer: bool) -> None:
    assert may_automate(kind, ME, parent) is answer


def test_e9_agents_before_automation_before_campaigns() -> None:
    assert {priority(origin) for origin in PLAIN} == {priority("chatbot")}
    assert priority("agent") < priority("chatbot") < priority("campaign")


@pytest.mark.parametrize(
    ("ahead", "is_good"),
    [
        pytest.param(None, True, id="no time"),
        pytest.param(timedelta(0), True, id="now"),
        pytest.param(-timedelta(minutes=5), True, id="five minutes past"),
        pytest.param(-timedelta(minutes=5, microseconds=1), False, id="just over five minutes past"),
        pytest.param(-timedelta(days=400), False, id="long past"),
        pytest.param(timedelta(days=366), True, id="a year ahead"),
        pytest.param(timedelta(days=366, microseconds=1), False, id="just over a year ahead"),
    ],
)
def test_e11_a_time_to_send_at(ahead: timedelta | None, is_good: bool) -> None:
    refusal = check_send_at(None if ahead is None else NOW + ahead, NOW)
    assert (refusal is None) is is_good
    if refusal:
        assert (refusal.status, refusal.code) == (422, "invalid_request")
        assert [fault.pointer for fault in refusal.errors] == ["/send_at"]
        assert "(rule E11)" in refusal.detail


SAID = Consent(is_revoked=True, is_granted=False, is_marketing_stopped=True)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"origin": "chatbot"}, "E2"),
        ({"origin": "chatbot", "parent": None}, "E2"),
        ({"origin": "chatbot", "parent": MINE, "claimed_epoch": 4}, "E2"),
        ({"origin": "chatbot", "channel_kind": "standalone"}, "A3"),
        ({"last_customer_at": None}, "E4"),
        ({"medium": "sms", "consent": SAID}, "E5"),
        ({"origin": "campaign", "parent": MINE}, "E5"),
        ({"is_free_form": False, "is_marketing": True, "consent": SAID}, "E5"),
    ],
)
def test_every_refusal_cites_its_rule_in_sentences(changes: dict[str, object], rule: str) -> None:
    refusal = refused(**changes)
    assert refusal is not None
    assert f"(rule {rule})" in refusal.detail
    assert refusal.detail[0].isupper()
    assert refusal.detail.endswith(".")
