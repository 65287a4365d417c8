"""What one service sees of another's message: nothing that rule C1 does not name, unless both sides want it (C2)."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.actions import describe
from hub.actions.audience import Viewer, body
from hub.actions.look import show_message
from hub.actions.reveal import mask_event
from hub.domain.events import Event
from hub.domain.ids import new_id, public_id
from hub.domain.masking import (
    Policy,
    PolicyBook,
    Sharing,
    automation,
    may_see_content,
    private_to,
    project_event,
    project_holder,
    project_link,
    project_message,
    reveal_event,
)

AUTHOR, VIEWER, THIRD, CHANNEL = (UUID(int=n) for n in range(1, 5))
SERVICES = (AUTHOR, VIEWER, THIRD)
START = datetime(2026, 1, 1, tzinfo=UTC)

NAMED = {"id", "direction", "medium", "type", "author", "origin", "agent", "status", "status_times", "masked"}
"""The masked fields of the events contract; `status_times` are its times."""
HARMLESS = {"sequence", "created_at", "send_at", "conflict", "erased", "unrouted", "reconciled"}
"""Beside them: place and time in the conversation, and flags of the hub's own, none of which can hold content."""

CONTENT = (
    "text", "media", "location", "contacts", "interactive", "button", "order", "reply_to", "forwarded", "referral",
    "system", "errors", "error", "raw", "provider_id", "provider_time", "template", "links", "note", "file_name",
    "campaign", "segments", "edited_at", "deleted_at", "something_of_next_year",
)  # fmt: skip


def at(minutes: int) -> datetime:
    """So many minutes after the story begins."""
    return START + timedelta(minutes=minutes)


def name(service: UUID) -> str:
    """A service's id as it is written outside."""
    return public_id("svc", service)


def secrets() -> st.SearchStrategy[str]:
    """Words that occur nowhere in a masked message by accident."""
    return st.text("abcdefghijklmnopqrstuvwxyz", min_size=6, max_size=12).map(lambda word: f"§{word}§")


def anything() -> st.SearchStrategy[Any]:
    """Any JSON whose every key and every leaf is a secret."""
    return st.recursive(
        secrets(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(secrets(), inner, max_size=3),
        max_leaves=8,
    )


def contents() -> st.SearchStrategy[dict[str, Any]]:
    """What any type of message may hold, of next year's too."""
    return st.dictionaries(st.sampled_from(CONTENT) | secrets(), anything(), min_size=1, max_size=6)


def words(value: Any) -> set[str]:
    """Every secret in a JSON value, as keys or as leaves."""
    if isinstance(value, dict):
        return words(list(value)) | words(list(value.values()))
    if isinstance(value, list):
        return {word for inner in value for word in words(inner)}
    return {value} if isinstance(value, str) and "§" in value else set()


def envelope() -> dict[str, Any]:
    """The fields that anybody may see, filled."""
    return {
        "id": "msg_1",
        "direction": "outbound",
        "medium": "whatsapp",
        "type": "text",
        "origin": "agent",
        "sequence": 7,
        "author": {"service_id": name(AUTHOR), "name": "crm"},
        "agent": {"id": "§agent-id§", "name": "Ana"},
        "status": "failed",
        "status_times": {"queued": "2026-01-01T00:00:00Z"},
        "created_at": "2026-01-01T00:00:00Z",
        "send_at": "2026-01-02T00:00:00Z",
        "conflict": True,
        "erased": True,
        "unrouted": True,
        "reconciled": True,
    }


def text(view: Any) -> str:
    """A view as it is written."""
    return orjson.dumps(view).decode()


# What is left (C1) --------------------------------------------------------------------------------------------------


@given(contents())
def test_c1_no_word_of_the_content_is_in_a_masked_message(content: dict[str, Any]) -> None:
    masked = project_message({**content, **envelope()}, viewer=VIEWER, is_full=False)
    assert "§" not in text(masked)


@given(contents(), contents())
def test_c1_nor_in_a_masked_event_whatever_it_says_beside_the_message(
    content: dict[str, Any], beside: dict[str, Any]
) -> None:
    data = {"channel_id": "chn_1", "conversation": {"id": "cnv_1"}, "message": {**content, **envelope()}, **beside}
    view = project_event(data, viewer=VIEWER, is_full=False)
    assert "§" not in text(view)
    assert view["conversation"] == {"id": "cnv_1"}


LINK = {"id": "lnk_1", "message_id": "msg_1"}
CLICK = {"id": "clk_1", "at": "2026-01-01T00:00:00Z", "verdict": "person"}
REPORT = {
    **LINK, "medium": "sms", "created_at": "2026-01-01T00:00:00Z", "state": "identifies", "disabled_at": None,
    "is_personal": True, "suspect": False, "clicks": {"people": 2, "unique": 1}, "visits": 1, "bound": 1,
}  # fmt: skip


def link_contents() -> st.SearchStrategy[dict[str, Any]]:
    """What a link says of where it leads and what for, in next year's words too."""
    return st.dictionaries(
        st.sampled_from(["target", "campaign", "place", "title"]) | secrets(), anything(), min_size=1, max_size=4
    )


@given(link_contents(), link_contents(), link_contents())
def test_c1_where_a_link_leads_is_in_no_masked_event_and_no_masked_report(
    content: dict[str, Any], more: dict[str, Any], beside: dict[str, Any]
) -> None:
    data = {"channel_id": "chn_1", "link": {**content, **LINK}, "click": {**more, **CLICK}, **beside}
    view = project_event(data, viewer=VIEWER, is_full=False)
    assert view == {"channel_id": "chn_1", "link": LINK, "click": CLICK}
    assert project_event(data, viewer=AUTHOR, is_full=True) == data
    report = {**content, **REPORT}
    assert project_link(report, is_full=False) == {**REPORT, "masked": True}
    assert project_link(report, is_full=True) == report


@given(anything(), anything())
def test_c1_whatever_stands_for_a_link_or_a_click(link: Any, click: Any) -> None:
    for data in ({"link": link, "click": click}, {"link": link}, {"click": click}):
        assert "§" not in text(project_event(data, viewer=VIEWER, is_full=False))


def test_c1_exactly_the_named_fields_are_visible() -> None:
    masked = project_message({**dict.fromkeys(CONTENT, "§"), **envelope()}, viewer=VIEWER, is_full=False)
    assert set(masked) == NAMED | HARMLESS
    assert masked["masked"] is True
    assert masked["agent"] == {"name": "Ana"}
    assert {name: masked[name] for name in masked if name not in {"agent", "masked"}} == {
        name: value for name, value in envelope().items() if name != "agent"
    }


def test_c1_an_author_sees_all_of_their_own() -> None:
    whole = {**dict.fromkeys(CONTENT, "§"), **envelope()}
    assert project_message(whole, viewer=AUTHOR, is_full=True) == whole


def test_a_projection_leaves_the_original_alone() -> None:
    holder = {"service": {"id": name(THIRD)}, "agent": {"id": "§", "name": "Ana"}}
    data = {
        "channel_id": "chn_1",
        "conversation": {"id": "cnv_1", "picked_up_by": holder},
        "answered_service_id": "svc_x",
        "private": [private_to([VIEWER], conversation={"note": "§"}, message={"note": "§"})],
        "message": {"button": {"payload": "p"}, "id": "m"},
    }
    before = text(data)
    for is_full in (True, False):
        for viewer in (None, *SERVICES):
            project_event(data, viewer=viewer, is_full=is_full)
    reveal_event(data)
    assert text(data) == before


TAPPED = {
    "text": "Yes, please",
    "button": {"text": "Yes", "payload": "§payload§"},
    "interactive": {
        "type": "button_reply",
        "button_reply": {"id": "§id§", "title": "Yes", "description": "all of it"},
        "nfm_reply": {"response_json": "§response§", "body": "Sent"},
    },
}


@pytest.mark.parametrize("viewer", [VIEWER, THIRD, None], ids=["viewer", "third", "operator"])
def test_c1_titles_of_buttons_are_seen_by_all_and_payloads_by_nobody_else(viewer: UUID | None) -> None:
    data = {"channel_id": "chn_1", "answered_service_id": name(AUTHOR), "message": {**TAPPED, "id": "msg"}}
    view = project_event(data, viewer=viewer, is_full=True)
    assert "§" not in text(view)
    assert "answered_service_id" not in view
    assert view["message"]["button"] == {"text": "Yes"}
    assert view["message"]["interactive"]["button_reply"] == {"title": "Yes", "description": "all of it"}
    assert view["message"]["id"] == "msg"


def test_c1_payloads_go_to_the_author_of_the_buttons() -> None:
    data = {"channel_id": "chn_1", "answered_service_id": name(AUTHOR), "message": TAPPED}
    assert project_event(data, viewer=AUTHOR, is_full=True) == {"channel_id": "chn_1", "message": TAPPED}


def test_c1_a_tapped_button_may_have_any_shape() -> None:
    for odd in ({}, {"button": None}, {"interactive": "x"}, {"interactive": {"list_reply": ["x"]}}):
        assert project_message(odd, viewer=VIEWER, is_full=True, asked_by=name(AUTHOR)) == odd


def test_c1_agents_of_others_are_named_and_no_more() -> None:
    ana = {"service": {"id": name(AUTHOR), "name": "crm"}, "agent": {"id": "§ana", "name": "Ana"}, "since": 1}
    ben = {"service": {"id": name(VIEWER), "name": "desk"}, "agent": {"id": "§ben", "name": "Ben"}}
    before = {**ana, "previous": {"agent": {"id": "§abe", "name": "Abe"}}}
    data = {"conversation": {"id": "cnv_1", "picked_up_by": ana}, "pickup": before, "warnings": [ana, ben]}
    seen = {viewer: text(project_event(data, viewer=viewer, is_full=True)) for viewer in (None, *SERVICES)}
    for viewer, view in seen.items():
        assert all(f'"{agent}"' in view for agent in ("Ana", "Ben", "Abe"))
        assert {word for word in ("§ana", "§abe", "§ben") if word in view} == {
            AUTHOR: {"§ana", "§abe"},
            VIEWER: {"§ben"},
        }.get(viewer or THIRD, set())
    assert project_holder(ana, AUTHOR) == ana
    assert project_holder(ana, VIEWER)["agent"] == {"name": "Ana"}
    passed = {"from": {"id": name(AUTHOR)}, "to": {"id": name(VIEWER)}, "agent": {"id": "§ana", "name": "Ana"}}
    assert project_event(passed, viewer=AUTHOR, is_full=True) == passed
    assert project_event(passed, viewer=VIEWER, is_full=True)["agent"] == {"name": "Ana"}


def test_c1_what_is_private_is_merged_for_those_it_is_for() -> None:
    data = {
        "from": {"id": name(AUTHOR), "name": "crm"},
        "to": {"id": name(VIEWER), "name": "desk"},
        "private": [private_to([AUTHOR, VIEWER], note="§ for two"), private_to([AUTHOR], to={"since": "§ for one"})],
    }
    both = {**data["from"]}, {**data["to"]}
    assert project_event(data, viewer=THIRD, is_full=True) == {"from": both[0], "to": both[1]}
    assert project_event(data, viewer=None, is_full=True) == {"from": both[0], "to": both[1]}
    assert project_event(data, viewer=VIEWER, is_full=True) == {"from": both[0], "to": both[1], "note": "§ for two"}
    whole = {"from": both[0], "to": {**both[1], "since": "§ for one"}, "note": "§ for two"}
    assert project_event(data, viewer=AUTHOR, is_full=True) == whole
    assert reveal_event(data) == whole


@pytest.mark.parametrize("origin", ["customer", "agent", "chatbot", "echo", "external"])
@pytest.mark.parametrize("may_automate", [True, False])
def test_a9_bots_are_told_whether_they_may_speak_never_to_what_the_business_wrote(
    origin: str, may_automate: bool
) -> None:
    told = automation({"message": {"id": "msg_1", "origin": origin}}, may_automate=may_automate, epoch=4)
    assert told == {"allowed": may_automate and origin not in {"echo", "external"}, "parent_epoch": 4}


def test_an_event_without_a_message_keeps_its_facts() -> None:
    data = {"channel_id": "chn_1", "service": {"id": "svc_1"}, "reaction": {"emoji": "x"}, "parent": None}
    assert project_event(data, viewer=new_id(), is_full=True) == data


# Who may see content (C2) -------------------------------------------------------------------------------------------

FULL, MASKED = "full", "masked"
ALL, NONE, NAMED_VIEWER = Sharing("all"), Sharing(), Sharing("named", {VIEWER})


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
    book = {(CHANNEL, VIEWER): [Policy(at(0), display)], (CHANNEL, AUTHOR): [Policy(at(0), sharing=sharing)]}
    assert may_see_content(book, CHANNEL, VIEWER, AUTHOR, at(1)) is is_full


CASES: dict[str, tuple[list[tuple[int, str]], list[tuple[int, Sharing]], int, bool]] = {
    # The viewer's and the author's policies, each from a minute on; when it was written; whether it is seen at the end.
    "neither ever said anything": ([], [], 5, False),
    "both before it was written": ([(1, FULL)], [(2, ALL)], 5, True),
    "both at that very moment": ([(5, FULL)], [(5, NAMED_VIEWER)], 5, True),
    "the viewer asks only later": ([(6, FULL)], [(1, ALL)], 5, False),
    "the author shares only later": ([(1, FULL)], [(6, ALL)], 5, False),
    "both only later": ([(6, FULL)], [(7, ALL)], 5, False),
    "loosened before, by steps": ([(1, MASKED), (2, FULL)], [(1, NONE), (3, NAMED_VIEWER)], 5, True),
    "the viewer asks no more": ([(1, FULL), (6, MASKED)], [(1, ALL)], 5, False),
    "the author shares no more": ([(1, FULL)], [(1, ALL), (6, NONE)], 5, False),
    "the author shares with others now": ([(1, FULL)], [(1, ALL), (6, Sharing("named", {THIRD}))], 5, False),
    "the author shares with fewer now": ([(1, FULL)], [(1, ALL), (6, NAMED_VIEWER)], 5, True),
    "then with others, now with all": ([(1, FULL)], [(1, Sharing("named", {THIRD})), (6, ALL)], 5, False),
    "tightened and loosened since": ([(1, FULL), (6, MASKED), (7, FULL)], [(1, ALL), (6, NONE), (8, ALL)], 5, True),
    "written while tightened": ([(1, FULL), (4, MASKED), (6, FULL)], [(1, ALL)], 5, False),
    "written while not shared": ([(1, FULL)], [(1, ALL), (4, NONE), (6, ALL)], 5, False),
    "tightened just when it was written": ([(1, FULL)], [(1, ALL), (5, NONE), (6, ALL)], 5, False),
    "loosened before, clocks apart": ([(1, FULL)], [(6, NONE), (4, ALL)], 5, True),
    "tightened last, clocks apart": ([(1, FULL)], [(6, ALL), (4, NONE)], 7, False),
}


@pytest.mark.parametrize("case", CASES)
def test_c2_the_stricter_of_then_and_now_counts(case: str) -> None:
    asked, shared, written, is_full = CASES[case]
    book: PolicyBook = {
        (CHANNEL, VIEWER): [Policy(at(minute), display, ALL) for minute, display in asked],
        (CHANNEL, AUTHOR): [Policy(at(minute), FULL, sharing) for minute, sharing in shared],
    }
    assert may_see_content(book, CHANNEL, VIEWER, AUTHOR, at(written)) is is_full
    assert may_see_content(book, CHANNEL, AUTHOR, AUTHOR, at(written))
    assert not may_see_content(book, CHANNEL, None, AUTHOR, at(written))
    assert not may_see_content(book, new_id(), VIEWER, AUTHOR, at(written))


@pytest.mark.parametrize("viewer", [None, *SERVICES], ids=["operator", "author", "viewer", "third"])
def test_c1_what_comes_from_the_customer_is_not_masked(viewer: UUID | None) -> None:
    assert may_see_content({}, CHANNEL, viewer, None, at(0))


# Every path ---------------------------------------------------------------------------------------------------------

History = list[tuple[int, str, str, frozenset[UUID]]]
"""From which minute on a service asked to see what, and shared how, with whom."""


def histories() -> st.SearchStrategy[History]:
    """What one service wanted in the course of time."""
    step = st.tuples(
        st.integers(0, 9),
        st.sampled_from(["full", "full", "masked"]),
        st.sampled_from(["all", "named", "none"]),
        st.frozensets(st.sampled_from(SERVICES), max_size=2),
    )
    return st.lists(step, max_size=4).map(lambda steps: sorted(steps, key=lambda one: one[0]))


def book_of(wanted: dict[UUID, History]) -> PolicyBook:
    """The same as the hub keeps it."""
    return {
        (CHANNEL, service): [Policy(at(m), display, Sharing(mode, named)) for m, display, mode, named in history]
        for service, history in wanted.items()
    }


def wants(viewer: UUID, author: UUID, wanted: dict[UUID, History], minute: int) -> bool:
    """Whether both sides wanted it at that minute: rule C2, told once more in other words."""
    display, mode, named = "masked", "none", frozenset[UUID]()
    for since, asked, _, _ in wanted.get(viewer, ()):
        display = asked if since <= minute else display
    for since, _, shared, with_whom in wanted.get(author, ()):
        mode, named = (shared, with_whom) if since <= minute else (mode, named)
    return display == "full" and (mode == "all" or (mode == "named" and viewer in named))


def stored(content: dict[str, Any], author: UUID | None, minute: int, status: str) -> dict[str, Any]:
    """A message as the database has it, with a secret wherever one fits that nobody else may see."""
    return {
        "id": UUID(int=77),
        "conversation_id": UUID(int=78),
        "channel_id": CHANNEL,
        "sequence": 3,
        "direction": "outbound",
        "medium": "whatsapp",
        "type": "something_of_next_year",
        "origin": "agent",
        "author_service_id": author,
        "author_name": "its name",
        "agent_id": "§the agent's id§",
        "agent_name": "Ana",
        "content": json.dumps(content),
        "provider_id": "§the provider's id§",
        "provider_time": None,
        "status": status,
        "error": json.dumps({"code": "§code§", "title": "§what the provider says§", "details": {"href": "§href§"}}),
        "conflict": True,
        "unrouted": False,
        "reconciled": False,
        "history": False,
        "raw": json.dumps({"§raw§": "§as it came§"}, ensure_ascii=False),
        "created_at": at(minute),
        "edited_at": None,
        "deleted_at": None,
        "campaign": "§the campaign§",
        "send_at": at(20),
        "segments": 3,
    }


def event_of(data: dict[str, Any], author: UUID | None, minute: int, kind: str, **more: Any) -> Event:
    """An event as the log has it: a status is told at minute 30, of a message that was written before."""
    is_late = kind != "message.queued"
    written = {"written_at": at(minute)} if is_late else {}
    return Event(
        9, 0, 8, kind, at(30 if is_late else minute), CHANNEL, UUID(int=78), 5, None, author, None,
        orjson.dumps(data, option=orjson.OPT_UTC_Z).decode(), **written, **more,
    )  # fmt: skip


def around(message: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An event's data with this message."""
    return {
        "number": "+15550001111",
        "channel_id": public_id("chn", CHANNEL),
        "conversation": {"id": "cnv_1", "medium": "whatsapp"},
        "contact": {"id": "con_1", "name": "Mia", "addresses": []},
        "message": message,
        **more,
    }


def viewers(may_automate: UUID) -> list[Viewer]:
    """All three services as they look, in one order."""
    return [Viewer(CHANNEL, service, None, service == may_automate, 2) for service in SERVICES]


@settings(max_examples=400)
@given(
    content=contents(),
    beside=st.dictionaries(secrets(), anything(), max_size=2),
    author=st.sampled_from(SERVICES),
    wanted=st.fixed_dictionaries({}, optional={service: histories() for service in SERVICES}),
    minute=st.integers(0, 10),
    kind=st.sampled_from(["message.queued", "message.status", "message.of_next_year"]),
    status=st.sampled_from(["queued", "failed", "unknown", "read"]),
    order=st.permutations(range(3)),
    is_row=st.booleans(),
)
def test_c2_no_path_lets_content_out_that_the_policy_hides(
    content: dict[str, Any], beside: dict[str, Any], author: UUID, wanted: dict[UUID, History], minute: int, kind: str,
    status: str, order: Sequence[int], is_row: bool,
) -> None:  # fmt: skip
    """Webhook, feed and stream carry what `body` makes, timeline and message view what `show_message` makes."""
    row = stored(content, author, minute, status)
    whole = describe.message(row, [{"status": status, "at": at(30), "provider_time": None}])
    event = event_of(around(whole, **beside), author, minute, kind)
    hidden = words(orjson.loads(orjson.dumps(whole)))
    assert {"§the agent's id§", "§the campaign§", "§as it came§", "§what the provider says§"} <= hidden
    if not is_row:
        hidden |= words(beside)
    book, looking = book_of(wanted), viewers(AUTHOR)
    for viewer in (looking[place] for place in order):
        seen = text(show_message(row, whole, viewer.service_id, book)) if is_row else body(event, viewer, book).decode()
        view = orjson.loads(seen) if is_row else orjson.loads(seen)["data"]["message"]
        is_full = viewer.service_id == author or (
            wants(viewer.service_id, author, wanted, minute) and wants(viewer.service_id, author, wanted, 99)
        )
        found = {word for word in hidden if word in seen}
        own = set() if viewer.service_id == author else {"§the agent's id§"}  # told to its service alone
        assert found == (hidden - own if is_full else set())
        assert is_full or "§" not in seen
        assert view.get("masked", False) is not is_full
        assert (view["status"], view["agent"]["name"], view["author"]["name"]) == (status, "Ana", "its name")  # C4
        assert view["status_times"].keys() == {"queued", status}
        assert is_full or "error" not in view


@settings(max_examples=200)
@given(
    content=link_contents(),
    author=st.sampled_from(SERVICES),
    wanted=st.fixed_dictionaries({}, optional={service: histories() for service in SERVICES}),
    minute=st.integers(0, 10),
    order=st.permutations(range(3)),
)
def test_c2_where_a_link_leads_is_let_out_as_the_message_is_that_it_was_sent_in(
    content: dict[str, Any], author: UUID, wanted: dict[UUID, History], minute: int, order: Sequence[int]
) -> None:
    data = {**around({}), "link": {**content, **LINK}, "click": CLICK}
    del data["message"]
    event = event_of(data, author, minute, "link.clicked")
    book, looking = book_of(wanted), viewers(AUTHOR)
    for viewer in (looking[place] for place in order):
        view = orjson.loads(body(event, viewer, book))["data"]
        is_full = viewer.service_id == author or (
            wants(viewer.service_id, author, wanted, minute) and wants(viewer.service_id, author, wanted, 99)
        )
        assert view["link"] == (orjson.loads(orjson.dumps(data["link"])) if is_full else LINK)
        assert view["click"] == CLICK
        assert view["contact"]["name"] == "Mia"
    assert "§" not in text(mask_event(event))


@given(contents(), st.sampled_from(SERVICES), st.integers(0, 9))
def test_c2_nor_does_the_operator_see_it_unasked(content: dict[str, Any], author: UUID, minute: int) -> None:
    row = stored(content, author, minute, "failed")
    whole = describe.message(row, [])
    assert "§" not in text(show_message(row, whole, None, {}))
    event = event_of(around(whole, private=[private_to([author], note="§")]), author, minute, "message.status")
    assert "§" not in text(mask_event(event))
    assert words(orjson.loads(event.data)) == words(orjson.loads(orjson.dumps(reveal_event(orjson.loads(event.data)))))


def parts() -> st.SearchStrategy[dict[str, Any]]:
    """Whatever may stand in an event that not all strangers see alike."""
    service = st.sampled_from(SERVICES)
    agent = st.fixed_dictionaries({"id": secrets(), "name": st.just("Ana")})
    holder = st.fixed_dictionaries({"service": st.fixed_dictionaries({"id": service.map(name)}), "agent": agent})
    return st.fixed_dictionaries(
        {},
        optional={
            "answered_service_id": service.map(name),
            "private": st.lists(
                st.builds(lambda to, note: private_to([to], note=note), service, secrets()), max_size=2
            ),
            "warnings": st.lists(holder, max_size=2),
            "pickup": holder,
        },
    )


@settings(max_examples=300)
@given(
    more=parts(),
    author=st.none() | st.sampled_from(SERVICES),
    held_by=st.none() | st.sampled_from(SERVICES),
    wanted=st.fixed_dictionaries({}, optional={service: histories() for service in SERVICES}),
    kind=st.sampled_from(["message.received", "message.queued", "message.status", "conversation.picked_up"]),
    parent=st.sampled_from(SERVICES),
    order=st.permutations(range(3)),
)
def test_one_rendering_for_all_who_see_the_same_is_never_a_wrong_one(
    more: dict[str, Any], author: UUID | None, held_by: UUID | None, wanted: dict[UUID, History], kind: str,
    parent: UUID, order: Sequence[int],
) -> None:  # fmt: skip
    if not kind.startswith("conversation."):
        more.pop("pickup", None)
    holder = {
        "service": held_by and {"id": name(held_by), "name": "who"},
        "agent": {"id": "§holder§", "name": "Ana"},
        "expires_at": at(90),
    }
    held = orjson.dumps(holder).decode() if held_by else None
    data = around({**TAPPED, "id": "msg_1", "origin": "customer"}, **more)
    event = event_of(data, author, 5, kind, picked_up_by=held)
    book, looking = book_of(wanted), viewers(parent)
    for viewer in (looking[place] for place in order):
        fresh = event_of(data, author, 5, kind, picked_up_by=held)
        mine = body(event, viewer, book)
        assert mine == body(fresh, viewer, book)
        assert (b"\xc2\xa7holder" in mine) is (held_by == viewer.service_id)
        assert orjson.loads(mine)["data"]["automation"]["allowed"] is (viewer.service_id == parent)


def rendered(event: Event, looking: Iterable[Viewer]) -> int:
    """How often it is rendered for all of them."""
    for viewer in looking:
        body(event, viewer, {})
    return len(event.views)


def test_what_a_customer_writes_is_rendered_for_the_parent_and_once_for_all_others() -> None:
    many = [Viewer(CHANNEL, new_id(), None, place == 0, 2) for place in range(20)]
    common = around({"id": "msg_1", "text": 'the "private" "answered_service_id"', "origin": "customer"})
    assert rendered(event_of(common, None, 1, "message.received"), many) == 2
    holder = {"service": {"id": name(many[3].service_id)}, "agent": {"id": "§", "name": "A"}, "expires_at": at(90)}
    held = event_of(common, None, 1, "message.received", picked_up_by=orjson.dumps(holder).decode())
    assert rendered(held, many) == 3
