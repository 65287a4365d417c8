"""The console's pure parts: where a login leads, how failed ones count, what is hinted to whom, what is to be done."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from hub.actions.roster import Caller
from hub.actions.standing import Standing
from hub.domain.errors import TooMany
from hub.domain.ids import new_id, public_id
from hub.http.console.attention import matters
from hub.http.console.hints import seen_by, topics_of
from hub.http.console.login import MOST_FAILURES, WINDOW, FailedLogins
from hub.http.console.pages import safe_path
from hub.http.console.rendering import assets, span, templates
from hub.http.console.session import Viewer

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "path",
    ["/console", "/console/numbers/+15550001111", "/console/search?q=Mia%20K", "/docs", "/docs/errors#no_consent"],
)
def test_a_login_leads_on_to_console_and_documents(path: str) -> None:
    assert safe_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example/console", "https://evil.example/console", "/\\evil.example", "/console\\..\\x",
        "\\/evil.example", "/consolex", "/docsx", "/v1/admin/services", "console", "/console/../v1",
        "/console/%2e%2e/v1",
        "/console//evil",
        "/console/%5c%5cevil", " /console", "/con\tsole", "/console\r\nSet-Cookie: a=b", "javascript:alert(1)", "",
        "/console/login", "/console/logout", "/console/" + "x" * 2001, None, "/docs/\u2028",
    ],
)  # fmt: skip
def test_and_to_nothing_else(path: str | None) -> None:
    assert safe_path(path) == "/console"


def test_h4_ten_failed_logins_a_minute_then_one_waits() -> None:
    failed, now = FailedLogins(), 1000.0
    for number in range(MOST_FAILURES):
        failed.begin("192.0.2.1", now + number)
    with pytest.raises(TooMany) as caught:
        failed.begin("192.0.2.1", now + 20)
    assert caught.value.facts["retry_after"] == WINDOW - 20
    failed.begin("192.0.2.2", now + 20)  # somebody else's affair
    failed.begin("192.0.2.1", now + WINDOW + 0.1)  # the first is over a minute old
    with pytest.raises(TooMany):
        failed.begin("192.0.2.1", now + WINDOW + 0.2)


def test_h4_right_keys_do_not_count() -> None:
    failed = FailedLogins()
    for number in range(3 * MOST_FAILURES):
        failed.begin("192.0.2.1", float(number))
        failed.forgive("192.0.2.1", float(number))


CHANNEL, OTHER, SERVICE, STRANGER = new_id(), new_id(), new_id(), new_id()


@pytest.mark.parametrize(
    ("channel", "audience", "viewer", "is_seen"),
    [
        (CHANNEL, None, SERVICE, True),
        (CHANNEL, [SERVICE], SERVICE, True),
        (CHANNEL, [STRANGER], SERVICE, False),
        (CHANNEL, [], SERVICE, False),
        (OTHER, None, SERVICE, False),
        (OTHER, [SERVICE], SERVICE, False),
        (None, None, SERVICE, False),
        (None, None, None, True),
        (OTHER, [], None, True),
    ],
    ids=[
        "own",
        "named",
        "another's",
        "nobody's",
        "foreign",
        "foreign-named",
        "nowhere",
        "operator",
        "operators",
    ],
)
def test_a4_hints_go_to_those_who_may_know(
    channel: UUID | None, audience: list[UUID] | None, viewer: UUID | None, is_seen: bool
) -> None:
    hint = (channel, audience, frozenset({"traffic"}))
    assert seen_by([hint], viewer, {CHANNEL}) == ({"traffic"} if is_seen else set())


def test_an_event_makes_its_pages_out_of_date() -> None:
    row = {"conversation_id": CHANNEL, "message_id": OTHER, "contact_id": None, "type": "message.received"}
    assert topics_of(row) == {
        "traffic", "events", "conversations", "messages",
        f"conversation:{public_id('cnv', CHANNEL)}", f"message:{public_id('msg', OTHER)}",
    }  # fmt: skip
    row = {"conversation_id": None, "message_id": None, "contact_id": None, "type": "channel.parent_changed"}
    assert topics_of(row) == {"traffic", "events", "roster"}


DELIVERY: dict[str, Any] = {
    "state": "active", "paused_reason": None, "breaker": "closed", "lag": {"events": 0, "seconds": 0.0},
    "parked_lanes": 0, "failing_since": None, "last_error": None,
}  # fmt: skip
MEMBER: dict[str, Any] = {
    "id": "sub_1", "service_id": "svc_1", "name": "CRM", "number": "+15550001111", "dead": 0,
    "endpoint_url": "https://crm.example.com/", "connected_at": NOW - timedelta(days=1),
}  # fmt: skip


def standing(
    *, senders: Any = None, parent: Any = MEMBER, backlog: Any = (), dead: int = 0, more: Any = None, **delivery: Any
) -> Standing:
    member = {**MEMBER, "dead": dead, "delivery": DELIVERY | delivery, **(more or {})}
    channel = {"kind": "shared", "parent": parent, "members": [member]}
    well = [{"medium": "sms", "provider": "twilio", "health": {"state": "ok", "problems": []}}]
    number = {"e164": "+15550001111", "senders": well if senders is None else senders, "channels": [channel]}
    return Standing([number], 1, 1, list(backlog))


def told(found: Standing, **more: Any) -> list[tuple[str, str]]:
    return [(one.weight, one.title) for one in matters(found, NOW, is_operator=True, **more)]


def test_nothing_is_to_be_done_where_all_is_well() -> None:
    assert told(standing()) == []
    just_now = {"connected_at": NOW - timedelta(seconds=5)}
    for more in (just_now, {"endpoint_url": None}):  # its deliveries have not begun, or it pulls
        assert told(standing(lag=None, breaker=None, more=more)) == []


BAD_SENDER = [{"medium": "whatsapp", "provider": "meta", "health": {
    "state": "down", "problems": [{"code": "token_revoked", "detail": "Make new ones.", "since": NOW}]}}]  # fmt: skip
LATE = {
    "e164": "+15550001111",
    "medium": "sms",
    "provider": "twilio",
    "waiting": 7,
    "oldest_at": NOW - timedelta(minutes=5),
}


@pytest.mark.parametrize(
    ("found", "more", "expected"),
    [
        (standing(breaker="open"), {}, ("bad", "CRM on +15550001111 does not take events")),
        (standing(state="paused", paused_reason="gone"), {}, ("bad", "CRM on +15550001111 is paused")),
        (standing(state="paused", paused_reason="asked"), {}, ("wait", "CRM on +15550001111 is paused")),
        (standing(lag={"events": 9, "seconds": 90.0}), {}, ("warn", "CRM on +15550001111 is late")),
        (standing(parked_lanes=2), {}, ("warn", "CRM on +15550001111: 2 conversations fail")),
        (standing(lag=None, breaker=None), {}, ("bad", "CRM on +15550001111: nothing is delivered")),
        (standing(dead=3), {}, ("warn", "CRM on +15550001111: 3 dead letters")),
        (standing(parent=None), {}, ("warn", "+15550001111 has no parent")),
        (standing(senders=[]), {}, ("warn", "+15550001111 has no sender")),
        (standing(senders=BAD_SENDER), {}, ("bad", "WhatsApp on +15550001111: token revoked")),
        (standing(backlog=[LATE]), {}, ("warn", "7 messages wait to be sent by SMS on +15550001111")),
        (standing(), {"quarantined": 4}, ("warn", "4 in quarantine")),
        (standing(), {"waiting": 1}, ("wait", "One conversation waits")),
        (standing(), {"dead_loops": ["loop:sender"]}, ("bad", "A part of the hub does not run")),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_what_needs_somebody_is_told(found: Standing, more: dict[str, Any], expected: tuple[str, str]) -> None:
    assert told(found, **more) == [expected]


def test_the_worst_comes_first() -> None:
    found = told(standing(breaker="open", dead=1), waiting=2)
    assert [weight for weight, _ in found] == ["bad", "warn", "wait"]


def test_a_backlog_of_seconds_is_no_matter() -> None:
    assert told(standing(backlog=[LATE | {"oldest_at": NOW - timedelta(seconds=30)}])) == []


@pytest.mark.parametrize("is_operator", [True, False], ids=["operator", "service"])
def test_an_empty_hub_says_what_to_do_next(is_operator: bool) -> None:
    caller = None if is_operator else Caller(SERVICE, "CRM", frozenset({"read"}), is_eligible=True)
    values = dict.fromkeys(("path", "here", "chart", "hours"), "") | {"navigation": "", "notice": ""}
    text = templates().get_template("overview.html").render(
        title="Overview", viewer=Viewer(caller, "somebody", "token"), standing=Standing([], 0, 0, []),
        session_ends=None, public_url="https://hub.example.com", now=NOW, matters=[], **values,
    )  # fmt: skip
    expected = ["/v1/admin/numbers", "/v1/admin/services"] if is_operator else []
    for part in [*expected, "/v1/numbers/+15550001111/connection", "curl -X"]:
        assert part in text
    assert ("ADMIN_KEY" in text) == is_operator
    assert 'data-copy="curl -X PUT &#39;https://hub.example.com/v1/numbers/' in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3600, "1 h"),
        (19_200, "5 h 20 min"),
        (86_400, "1 day"),
        (200_000, "2 days"),
    ],
)
def test_lengths_of_time_are_words(seconds: int, text: str) -> None:
    assert span(seconds) == text


def test_every_template_compiles_and_no_page_brings_style_or_script_of_its_own() -> None:
    environment = templates()
    names = environment.list_templates()
    assert len(names) > 10
    for name in names:
        environment.get_template(name)
        assert environment.loader
        source = environment.loader.get_source(environment, name)[0]
        for forbidden in (
            " style=",
            "<style",
            " onclick",
            " onload",
            "javascript:",
            "<script>",
            "http://",
            "|safe",
            "| safe",
        ):
            assert forbidden not in source, f"{name}: {forbidden}"


def test_static_files_are_addressed_by_their_content() -> None:
    found = assets()
    assert {"console.css", "console.js", "partyline.svg"} <= set(found)
    assert all(one.url.startswith("/console/static/") and len(one.url.split(".")) == 3 for one in found.values())
    for name, one in found.items():
        text = one.body.decode()
        assert "url(http" not in text
        assert "@import" not in text, name
