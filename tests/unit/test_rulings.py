"""What the rules said of a message, as it is noted and as it is told."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from hub.actions.record_send import Call, _told
from hub.domain.consent import Consent
from hub.domain.policy import AUTOMATION, Parent, SendFacts
from hub.domain.rulings import Acceptance, rulings, tell
from hub.domain.story import OUTCOMES, steps
from providers.base import Refused

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
ME = UUID(int=1)
ACCEPTED = Acceptance(is_keyed=True, warnings=())


def facts(origin: str = "agent", medium: str = "whatsapp", **more: Any) -> SendFacts:
    values: dict[str, Any] = {
        "channel_kind": "shared", "parent": Parent(ME, "crm", NOW, 3), "parent_epoch": 3, "claimed_epoch": None,
        "last_customer_at": NOW - timedelta(hours=1), "is_free_form": True,
    }  # fmt: skip
    return SendFacts(origin=origin, service_id=ME, medium=medium, **(values | more))


def told(of: SendFacts, accepted: Acceptance = ACCEPTED) -> dict[str, tuple[str, str]]:
    """Outcome and text by rule, through JSON, as they are kept."""
    kept = json.loads(json.dumps([ruling.view() for ruling in rulings(of, accepted)]))
    return {view["rule"]: (view["outcome"], view["text"]) for view in map(tell, kept)}


CASES: list[tuple[str, SendFacts, Acceptance, str, str, str]] = [
    ("agent", facts(), ACCEPTED, "E3", "agent", "any service"),
    ("parent", facts("chatbot"), ACCEPTED, "E2", "parent", "at epoch 3, the request named none"),
    ("claimed epoch", facts("chatbot", claimed_epoch=3), ACCEPTED, "E2", "parent", "which the request named"),
    ("standalone", facts("workflow", channel_kind="standalone"), ACCEPTED, "A3", "allowed", "operator allows"),
    ("window", facts(), ACCEPTED, "E4", "open", "until 2026-11-23 11:00:00 UTC"),
    ("template", facts(is_free_form=False), ACCEPTED, "E4", "template", "no open reply window"),
    ("sms", facts(medium="sms"), ACCEPTED, "E4", "no_window", "SMS"),
    ("granted", facts(consent=Consent(is_granted=True)), ACCEPTED, "E5", "granted", "agreed"),
    ("revoked", facts(consent=Consent(is_revoked=True)), ACCEPTED, "E5", "revoked", "no automation"),
    ("unkeyed", facts(), Acceptance(False, ()), "E6", "not_keyed", "another message"),
    ("collision", facts(), Acceptance(True, ("held_by_other",)), "D2", "warned", "held_by_other"),
    ("newer", facts(), Acceptance(True, ("newer_messages",)), "D3", "warned", "newer_messages"),
    (
        "one link",
        facts(),
        Acceptance(True, (), links=1),
        "K1",
        "tracked",
        "1 link goes through the link host, not telling",
    ),
    ("two links", facts(), Acceptance(True, (), links=2, is_personal=True), "K1", "tracked", "2 links go"),
    ("later", facts("scheduled"), Acceptance(True, (), NOW), "E11", "scheduled", "until 2026-11-22 12:00:00 UTC"),
]


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_a_ruling_is_noted_and_told(case: tuple[str, SendFacts, Acceptance, str, str, str]) -> None:
    _, of, accepted, rule, outcome, part = case
    assert told(of, accepted)[rule][0] == outcome
    assert part in told(of, accepted)[rule][1]


def test_what_another_version_noted_is_told_by_its_codes() -> None:
    assert tell({"rule": "Z9", "outcome": "odd"})["text"] == "Z9: odd"
    assert "E6" not in told(facts(), Acceptance(None, ()))
    assert told(facts("chatbot"), Acceptance(True, (), must_wait=True))["E2"][0] == "held"
    assert AUTOMATION


def test_whatever_a_provider_calls_an_error_can_be_noted() -> None:
    """The outcome of a send is known once: it must not be lost for a word of the provider's."""
    call = Call(NOW, 5, 1)
    for code, kept in (("131026", "131026"), ("a\0b", "ab"), ("\ud800", "?"), ("x" * 1000, "x" * 100), (None, None)):
        assert _told(ME, 1, Refused("refused", provider_code=code), call).provider_code == kept


def test_a_story_is_in_order_and_empty_where_nothing_happened() -> None:
    empty: dict[str, Any] = {
        "message": None, "ingress": None, "rules": [], "provider_calls": [], "statuses": [], "events": [], "links": [],
    }  # fmt: skip
    assert steps(empty) == []
    call = {"at": NOW, "attempt": 1, "outcome": "unknown", "took_ms": None, "code": "timeout", "provider_code": None}
    status = {
        "status": "sent",
        "reported": "sent",
        "at": NOW - timedelta(seconds=1),
        "provider_time": None,
        "code": None,
    }
    story = steps(empty | {"provider_calls": [call], "statuses": [status]})
    assert [step["what"] for step in story] == ["status", "provider_call"]
    assert story[1]["text"].endswith("(rule E8), timeout")
    assert set(OUTCOMES) >= {"delivered", "dead", "parked", "settled", "waiting"}
