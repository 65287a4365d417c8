"""The console has words for everything it shows: reasons, problems, answers of endpoints, replays, raw bytes."""

import re
from pathlib import Path

import pytest

from hub.domain.sender_health import CODES
from hub.fanout import http1
from hub.http.console import quarantine_words, sender_words
from hub.http.console.audit import _text, url_of
from hub.http.console.quarantine import SHOWN, shown
from hub.http.console.rendering import templates
from hub.http.console.replays import in_words

ROOT = Path(__file__).parents[2]


def test_every_documented_reason_of_the_quarantine_has_words() -> None:
    section = (
        (ROOT / "docs/errors.md").read_text().partition("## Why something is quarantined")[2].partition("\n## ")[0]
    )
    reasons = set(re.findall(r"^### (\w+)$", section, re.MULTILINE)) | {"invalid_json", "no_such_route"}
    assert len(reasons) > 12
    assert {
        r for r in reasons if "no words" in quarantine_words.meaning_of(r) or not quarantine_words.cure_of(r)
    } == set()
    assert "no words" in quarantine_words.meaning_of("from_the_future")


def test_every_problem_of_a_sender_has_a_cure() -> None:
    unknown = sender_words.cure_of("from_the_future")
    assert [code for code in CODES if sender_words.cure_of(code) == unknown] == []


def test_every_problem_of_an_endpoint_has_words() -> None:
    said = templates().get_template("_desk.html").module.said  # type: ignore[attr-defined]
    problems = re.findall(
        r"`(\w+)`", (http1.Answer.__doc__ or "").partition("Problems:")[2].partition("`retry_after`")[0]
    )
    assert len(problems) > 8
    assert [problem for problem in problems if said(problem) == problem] == []
    assert said("http_503") == "it answered 503"


@pytest.mark.parametrize(
    ("selection", "words"),
    [
        ({"event_ids": ["evt_1"]}, "1 named event"),
        ({"event_ids": 3}, "3 named events"),
        ({"failed": True, "since": "2026-01-31T12:00:00Z"}, "all that were given up, since 31 Jan 2026 12:00:00 UTC"),
        ({"from_event_id": "evt_1"}, "from evt_1 to the newest"),
        ({"from_event_id": "evt_1", "to_event_id": "evt_2"}, "from evt_1 to evt_2"),
        ({"conversation_id": "cnv_1"}, "everything the log has, of conversation cnv_1"),
        ({"failed": True, "expired_events": 2}, "all that were given up, without 2 that the log no longer holds"),
    ],
)
def test_a_replay_is_told_in_words(selection: dict[str, object], words: str) -> None:
    assert in_words(selection) == words


@pytest.mark.parametrize(
    ("raw", "text", "form"),
    [
        (b'{"b":1,"a":"<i>"}', '{\n  "b": 1,\n  "a": "<i>"\n}', "json"),
        (b'{"a":', '{"a":', "text"),
        (b"", "", "text"),
        (b"\xff\x00\n\x1b[31m", "\\xff\\x00\n\\x1b[31m", "text"),
        ("\u202eevil".encode(), "\\u202eevil", "text"),
        ('{"a":"\u202e"}'.encode(), '{\n  "a": "\\u202e"\n}', "json"),
        (b"a" * (SHOWN + 1), "a" * SHOWN, "text"),
        (b"[" * 5000, "[" * 5000, "text"),
    ],
    ids=["json", "cut", "empty", "bytes", "turned", "turned-json", "long", "deep"],
)
def test_raw_bytes_are_shown_as_harmless_text(raw: bytes, text: str, form: str) -> None:
    assert shown(raw) == (text, form)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "yes"),
        (None, "none"),
        (["a", "b"], "a, b"),
        ([["whatsapp", "meta", "1"], ["sms", "twilio", "2"]], "whatsapp meta 1, sms twilio 2"),
        ({"conversation_id": "cnv_1", "failed": False}, "conversation id cnv_1, failed no"),
        (7, "7"),
    ],
)
def test_details_of_the_trail_are_told_in_words(value: object, text: str) -> None:
    assert _text(value) == text


def test_ids_lead_to_their_pages() -> None:
    assert url_of("svc_1") == "/console/services/svc_1"
    assert url_of("xyz_1") is None
    assert url_of("svcs") is None
    assert url_of(3) is None
