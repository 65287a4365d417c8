"""What one service sees of another's message: nothing that rule C1 does not name."""

import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.domain.ids import new_id, public_id
from hub.domain.masking import Sharing, may_see_content, project_event, project_message, without_payloads

AUTHOR, VIEWER, THIRD = UUID(int=1), UUID(int=2), UUID(int=3)

NAMED = {"id", "direction", "medium", "type", "author", "origin", "agent", "status", "status_times", "masked"}
"""The masked fields of the events contract; `status_times` are its times."""
HARMLESS = {"sequence", "created_at", "conflict", "erased", "unrouted", "reconciled"}
"""Beside them: place and time in the conversation, and flags of the hub's own, none of which can hold content."""

CONTENT = (
    "text", "media", "location", "contacts", "interactive", "button", "order", "reply_to", "forwarded", "referral",
    "system", "errors", "error", "raw", "provider_id", "provider_time", "template", "links", "note", "file_name",
    "campaign", "edited_at", "deleted_at", "something_of_next_year",
)  # fmt: skip


def secrets() -> st.SearchStrategy[str]:
    """Words that occur nowhere in a masked message by accident."""
    return st.text("abcdefghijklmnopqrstuvwxyz", min_size=6, max_size=12).map(lambda word: f"§{word}§")


def contents() -> st.SearchStrategy[Any]:
    """Any JSON whose every key and every leaf is a secret."""
    return st.recursive(
        secrets(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(secrets(), inner, max_size=3),
        max_leaves=8,
    )


def envelope() -> dict[str, Any]:
    """The fields that anybody may see, filled."""
    return {
        "id": "msg_1",
        "direction": "outbound",
        "medium": "whatsapp",
        "type": "text",
        "origin": "agent",
        "sequence": 7,
        "author": {"service_id": public_id("svc", AUTHOR), "name": "crm"},
        "agent": {"id": "§agent-id§", "name": "Ana"},
        "status": "failed",
        "status_times": {"queued": "2026-01-01T00:00:00Z"},
        "created_at": "2026-01-01T00:00:00Z",
        "conflict": True,
        "erased": True,
        "unrouted": True,
        "reconciled": True,
    }


@given(st.dictionaries(st.sampled_from(CONTENT) | secrets(), contents()))
def test_c1_no_word_of_the_content_is_in_a_masked_message(content: dict[str, Any]) -> None:
    masked = project_message({**content, **envelope()}, is_full=False)
    assert "§" not in json.dumps(masked, ensure_ascii=False)


@given(st.dictionaries(st.sampled_from(CONTENT) | secrets(), contents()), st.booleans())
def test_c1_nor_in_a_masked_event(content: dict[str, Any], is_parent: bool) -> None:
    data = {"channel_id": "chn_1", "message": {**content, **envelope()}}
    view = project_event(data, event_id="evt_1", viewer=VIEWER, is_full=False, may_automate=is_parent, epoch=1)
    assert "§" not in json.dumps(view, ensure_ascii=False)


def test_c1_exactly_the_named_fields_are_visible() -> None:
    masked = project_message({**dict.fromkeys(CONTENT, "§"), **envelope()}, is_full=False)
    assert set(masked) == NAMED | HARMLESS
    assert masked["masked"] is True
    assert masked["agent"] == {"name": "Ana"}
    assert {name: masked[name] for name in masked if name not in {"agent", "masked"}} == {
        name: value for name, value in envelope().items() if name != "agent"
    }


def test_c1_an_author_sees_all_of_their_own() -> None:
    whole = {**dict.fromkeys(CONTENT, "§"), **envelope()}
    assert may_see_content(AUTHOR, "masked", AUTHOR, Sharing())
    assert project_message(whole, is_full=True) == whole


def test_a_projection_leaves_the_original_alone() -> None:
    data = {"channel_id": "chn_1", "answered_service_id": "svc_x", "message": {"button": {"payload": "p"}, "id": "m"}}
    before = json.dumps(data)
    project_event(data, event_id="evt_1", viewer=VIEWER, is_full=False, may_automate=True, epoch=1)
    project_event(data, event_id="evt_1", viewer=VIEWER, is_full=True, may_automate=True, epoch=1)
    assert json.dumps(data) == before


@pytest.mark.parametrize(
    ("display", "sharing", "is_full"),
    [
        ("masked", Sharing(), False),
        ("masked", Sharing("all"), False),
        ("masked", Sharing("named", {VIEWER}), False),
        ("full", Sharing(), False),
        ("full", Sharing("none", {VIEWER}), False),
        ("full", Sharing("named", {THIRD}), False),
        ("full", Sharing("named", ()), False),
        ("full", Sharing("named", {THIRD, VIEWER}), True),
        ("full", Sharing("all"), True),
        ("anything else", Sharing("all"), False),
        ("full", Sharing("anything else", {VIEWER}), False),
    ],
)
def test_c2_full_content_needs_both_sides(display: str, sharing: Sharing, is_full: bool) -> None:
    assert may_see_content(VIEWER, display, AUTHOR, sharing) is is_full


@pytest.mark.parametrize("display", ["masked", "full"])
def test_c1_what_comes_from_the_customer_is_not_masked(display: str) -> None:
    assert may_see_content(VIEWER, display, None, Sharing())


TAPPED = {
    "text": "Yes, please",
    "button": {"text": "Yes", "payload": "§payload§"},
    "interactive": {
        "type": "button_reply",
        "button_reply": {"id": "§id§", "title": "Yes", "description": "all of it"},
        "nfm_reply": {"response_json": "§response§", "body": "Sent"},
    },
}


@pytest.mark.parametrize("viewer", [VIEWER, THIRD])
def test_c1_titles_of_buttons_are_seen_by_all_and_payloads_by_nobody_else(viewer: UUID) -> None:
    data = {"channel_id": "chn_1", "answered_service_id": public_id("svc", AUTHOR), "message": {**TAPPED, "id": "msg"}}
    view = project_event(data, event_id="evt_1", viewer=viewer, is_full=True, may_automate=False, epoch=1)
    text = json.dumps(view, ensure_ascii=False)
    assert "§" not in text
    assert "answered_service_id" not in text
    assert view["message"]["button"] == {"text": "Yes"}
    assert view["message"]["interactive"]["button_reply"] == {"title": "Yes", "description": "all of it"}
    assert view["message"]["id"] == "msg"


def test_c1_payloads_go_to_the_author_of_the_buttons() -> None:
    data = {"channel_id": "chn_1", "answered_service_id": public_id("svc", AUTHOR), "message": TAPPED}
    view = project_event(data, event_id="evt_1", viewer=AUTHOR, is_full=True, may_automate=False, epoch=1)
    assert view["message"] == TAPPED
    assert "answered_service_id" not in view


def test_without_payloads_survives_any_shape() -> None:
    for odd in ({}, {"button": None}, {"interactive": "x"}, {"interactive": {"list_reply": ["x"]}}):
        assert without_payloads(odd) == odd


@pytest.mark.parametrize("origin", ["customer", "agent", "chatbot", "echo", "external"])
@pytest.mark.parametrize("may_automate", [True, False])
def test_a9_bots_are_told_whether_they_may_speak_never_to_what_the_business_wrote(
    origin: str, may_automate: bool
) -> None:
    data = {"channel_id": "chn_1", "message": {"id": "msg_1", "origin": origin}}
    view = project_event(data, event_id="evt_1", viewer=VIEWER, is_full=True, may_automate=may_automate, epoch=4)
    assert view["automation"] == {
        "allowed": may_automate and origin not in {"echo", "external"},
        "parent_epoch": 4,
    }


def test_an_event_without_a_message_keeps_its_facts() -> None:
    data = {"channel_id": "chn_1", "service": {"id": "svc_1"}, "reaction": {"emoji": "x"}}
    view = project_event(data, event_id="evt_9", viewer=new_id(), is_full=False, may_automate=True, epoch=2)
    assert view == {**data, "event_id": "evt_9", "automation": {"allowed": True, "parent_epoch": 2}}
