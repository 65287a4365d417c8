"""The client library: each part against a table or a simple model, signatures against the stock package."""

import ast
import json
import re
import socket
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

import partyline_client as client
from hub.domain.signing import new_secret, secret_key, sign
from partyline_client import calls, sequences, stream
from partyline_client.request import Request, read_page
from partyline_client.sequences import Missing, Observation, Place

ROOT = Path(__file__).parents[2]
NOW = 1_800_000_000
OLD, NEW, STRANGE = (new_secret() for _ in range(3))
DATA = {
    "event_id": "evt_0000000000000004",
    "number": "+15550001111",
    "automation": {"allowed": True, "parent_epoch": 3},
    "conversation": {"id": "cnv_1", "sequence": 7},
    "contact": {"id": "con_1", "name": "Mia"},
    "message": {"id": "msg_1", "type": "text", "text": "Grüße"},
}
EVENT = {"type": "message.received", "timestamp": "2026-11-21T23:28:21.953413Z", "data": DATA}
BODY = json.dumps(EVENT, ensure_ascii=False).encode()


def event_with(**data: Any) -> dict[str, Any]:
    """The event as it is, but for these fields of its data."""
    return EVENT | {"data": DATA | data}


def signed(
    *secrets: str, body: bytes = BODY, at: int = NOW, webhook_id: str = str(DATA["event_id"]), **more: str
) -> dict[str, str]:
    """The headers that the hub would send."""
    signatures = sign([secret_key(secret) for secret in secrets], webhook_id, at, body)
    return {"webhook-id": webhook_id, "webhook-timestamp": str(at), "webhook-signature": signatures, **more}


def receiver(*secrets: str, at: float = NOW) -> client.Receiver:
    return client.Receiver(secrets or (NEW,), clock=lambda: at)


# The package --------------------------------------------------------------------------------------------------------


def test_it_imports_the_standard_library_and_standardwebhooks_alone() -> None:
    for path in (ROOT / "partyline_client").glob("*.py"):
        allowed = sys.stdlib_module_names | {"partyline_client", "standardwebhooks"}
        allowed |= {"aiohttp"} if path.name == "aiohttp.py" else set()
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert {name.partition(".")[0] for name in names} <= allowed, path
    assert (ROOT / "partyline_client" / "py.typed").exists()


# Verify -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("live", "made_with"),
    [((NEW,), [NEW]), ((OLD, NEW), [NEW]), ((OLD, NEW), [OLD]), ((NEW,), [OLD, NEW]), ((OLD,), [STRANGE, NEW, OLD])],
)
def test_any_live_secret_will_do(live: tuple[str, ...], made_with: list[str]) -> None:
    headers = signed(*made_with)
    for given_headers in (headers, {name.title(): value for name, value in headers.items()}):
        assert receiver(*live).receive(BODY, given_headers).id == DATA["event_id"]


def test_secrets_are_one_or_many_or_asked_for() -> None:
    live = [OLD]
    asked = client.Receiver(lambda: live, clock=lambda: NOW)
    with pytest.raises(client.BadSignature):
        asked.receive(BODY, signed(NEW))
    live.append(NEW)
    for one in (asked, client.Receiver(NEW, clock=lambda: NOW), client.Receiver({NEW, OLD}, clock=lambda: NOW)):
        assert one.receive(BODY, signed(NEW)).text == "Grüße"


@pytest.mark.parametrize("secrets", ["", "whsec_", "whsec_*", [], [NEW, "whsec_a"], [b""], [None]])
def test_what_is_no_secret_is_told_at_once_and_not_shown(secrets: Any) -> None:
    with pytest.raises(ValueError, match="secret") as told:
        client.Receiver(secrets)
    assert NEW not in str(told.value)


GOOD = signed(NEW)
WRONG: list[tuple[bytes, dict[str, str]]] = [
    (BODY, signed(STRANGE)),
    (BODY + b" ", GOOD),
    (BODY.replace(b"Mia", b"Bob"), GOOD),
    (b"", GOOD),
    (b"\xff", GOOD),
    (BODY, {}),
    *((BODY, {name: value for name, value in GOOD.items() if name != gone}) for gone in GOOD),
    *((BODY, GOOD | {name: ""}) for name in GOOD),
    (BODY, GOOD | {"webhook-id": "evt_0000000000000005"}),
    (BODY, GOOD | {"webhook-id": "evt_\udcff"}),
    (BODY, GOOD | {"webhook-timestamp": str(NOW + 1)}),
    *((BODY, GOOD | {"webhook-timestamp": wrong}) for wrong in ("now", "-1", "nan", "1e9", "٣", "9" * 12, "9" * 99)),
    *((BODY, GOOD | {"webhook-signature": wrong}) for wrong in ("v1", "v1,", ",", "v1,é", "v1,\udcff", "v1,AAAA", " ")),
    (BODY, GOOD | {"webhook-signature": GOOD["webhook-signature"].replace("v1,", "v1a,")}),
    (BODY, GOOD | {"webhook-signature": GOOD["webhook-signature"][3:]}),
]


@pytest.mark.parametrize(("body", "headers"), WRONG)
def test_what_the_hub_did_not_sign_is_not_read(body: bytes, headers: dict[str, str]) -> None:
    with pytest.raises(client.BadSignature):
        receiver().receive(body, headers)
    with pytest.raises(Exception):  # noqa: B017, PT011  the stock package has no one error for it
        Webhook(NEW).verify(body, headers)


@pytest.mark.parametrize(("age", "is_taken"), [(0, True), (300, True), (-300, True), (301, False), (-301, False)])
def test_a_signature_counts_for_five_minutes(age: int, is_taken: bool) -> None:
    if is_taken:
        assert receiver(at=NOW + age).receive(BODY, GOOD)
        return
    with pytest.raises(client.TooOld) as told:
        receiver(at=NOW + age).receive(BODY, GOOD)
    assert told.value.age == age
    with pytest.raises(client.BadSignature):  # a forged one is forged first of all
        receiver(at=NOW + age).receive(BODY, signed(STRANGE))


@given(st.text(st.characters(codec="utf-8")), st.sampled_from([[NEW], [OLD, NEW], [STRANGE], [OLD, STRANGE]]))
def test_it_takes_what_the_stock_package_takes(text: str, made_with: list[str]) -> None:
    now = int(datetime.now(UTC).timestamp())
    body = json.dumps(event_with(message={"text": text})).encode()
    headers = signed(*made_with, body=body, at=now)
    if NEW in made_with:
        assert client.Receiver(NEW).receive(body, headers).data == Webhook(NEW).verify(body, headers)["data"]
        return
    for verify in (client.Receiver(NEW).receive, Webhook(NEW).verify):
        with pytest.raises(Exception, match="signature"):
            verify(body, headers)


def test_it_takes_what_the_stock_package_signs() -> None:
    at = datetime.fromtimestamp(NOW, UTC)
    headers = GOOD | {"webhook-signature": "v2,x " + Webhook(OLD).sign(GOOD["webhook-id"], at, BODY.decode())}
    assert receiver(OLD, NEW).receive(BODY, headers)


# Parse --------------------------------------------------------------------------------------------------------------


def test_an_event_and_what_is_in_it() -> None:
    event = receiver().receive(BODY, signed(NEW))
    assert (event.id, event.type, event.data) == ("evt_0000000000000004", "message.received", DATA)
    assert event.timestamp == datetime(2026, 11, 21, 23, 28, 21, 953413, UTC)
    assert (event.number, event.conversation_id, event.sequence) == ("+15550001111", "cnv_1", 7)
    assert (event.contact, event.message, event.text) == (DATA["contact"], DATA["message"], "Grüße")
    assert (event.may_automate, event.parent_epoch, event.is_masked, event.is_replay) == (True, 3, False, False)


def test_a_replay_and_a_masked_message() -> None:
    masked = json.dumps(event_with(message={"id": "msg_1", "masked": True})).encode()
    event = receiver().receive(masked, signed(NEW, body=masked) | {"Webhook-Replay": "true"})
    assert (event.is_replay, event.is_masked, event.text) == (True, True, None)


@pytest.mark.parametrize("part", [None, 1, "x", [], {}])
def test_what_is_not_there_is_none_or_empty(part: Any) -> None:
    parts = dict.fromkeys(("conversation", "contact", "message", "automation", "number"), part)
    event = client.Event.from_document(event_with(**parts))
    assert (event.conversation_id, event.sequence, event.text, event.parent_epoch) == (None,) * 4
    assert (event.contact, event.message) == ({}, {})
    assert not event.may_automate
    assert not event.is_masked


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"1", b"[]", b"null", b"[" * 100_000, b"9" * 5_000, b"{}"]
    + [json.dumps(EVENT | {name: None}).encode() for name in EVENT]
    + [json.dumps(EVENT | {"timestamp": at}).encode() for at in ("", "now", "2026-11-21T23:28:21")]
    + [json.dumps(event_with(event_id=wrong)).encode() for wrong in (None, "", 4, "evt_0000000000000005")],
)
def test_what_is_signed_and_no_event_is_malformed(body: bytes) -> None:
    with pytest.raises(client.Malformed):
        receiver().receive(body, signed(NEW, body=body))


# Drop repeats -------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.sampled_from(["begin", "commit", "abandon", "wait"]), st.sampled_from("abcde")), max_size=60)
)
def test_seen_is_a_bounded_list_of_what_is_done(steps: list[tuple[str, str]]) -> None:
    now = 0.0
    seen = client.Seen(limit=3, max_age=4, clock=lambda: now)
    done: list[tuple[str, float]] = []
    begun: set[str] = set()
    for step, name in steps:
        done = [one for one in done if one[1] > now - 4][-3:]
        if step == "wait":
            now += 1
        elif step == "begin" and name in begun:
            with pytest.raises(client.InProgress):
                seen.begin(name)
        elif step == "begin":
            is_new = name not in {known for known, _ in done}
            assert seen.begin(name) is is_new
            begun |= {name} if is_new else set()
        elif name not in begun:
            with pytest.raises(KeyError):
                (seen.commit if step == "commit" else seen.abandon)(name)
        else:
            (seen.commit if step == "commit" else seen.abandon)(name)
            begun.remove(name)
            done += [(name, now)] if step == "commit" else []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit])
def test_an_event_counts_once_its_work_succeeded(error: type[BaseException]) -> None:
    seen = client.Seen()

    def fail() -> None:
        with seen.handling("evt_1") as is_new:
            assert is_new
            with pytest.raises(client.InProgress), seen.handling("evt_1"):
                pytest.fail("it is being worked on")
            raise error

    with pytest.raises(error):
        fail()
    for expected in (True, False, False):
        with seen.handling("evt_1") as is_new:
            assert is_new is expected
    with pytest.raises(error), seen.handling("evt_1"):  # what fails at a repeat takes nothing back
        raise error
    assert not seen.begin("evt_1")


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads change places as often as they can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("hasty")
def test_deliveries_of_one_event_at_once_are_worked_on_once() -> None:
    seen, start = client.Seen(), threading.Barrier(8)
    worked: list[str] = []

    def deliver(fails: bool) -> None:
        start.wait()
        for number in range(200):
            try:
                with seen.handling(f"evt_{number}") as is_new:
                    if is_new and fails:
                        raise ValueError
                    worked.extend([f"evt_{number}"] if is_new else [])
            except (client.InProgress, ValueError):
                pass  # the hub comes again

    threads = [threading.Thread(target=deliver, args=(number % 2 == 0,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(worked) == len(set(worked))
    for number in range(200):
        with seen.handling(f"evt_{number}") as is_new:
            worked.extend([f"evt_{number}"] if is_new else [])
    assert sorted(worked) == sorted(f"evt_{number}" for number in range(200))


# Detect gaps --------------------------------------------------------------------------------------------------------

NUMBERS = st.integers(1, 25)


class Watched:
    """The model: the numbers of one conversation that came, one by one."""

    def __init__(self) -> None:
        self.came: set[int] = set()

    def note(self, number: int, is_replay: bool) -> Observation:
        is_known = bool(self.came) and min(self.came) <= number <= max(self.came)
        if number in self.came:
            return Observation(Place.REPEAT)
        if is_replay and not is_known:
            return Observation(Place.LATE)
        if self.came and number < min(self.came):
            return Observation(Place.LATE)
        skipped = set(range(max(self.came, default=number) + 1, number))
        self.came.add(number)
        if skipped:
            return Observation(Place.GAP, Missing(min(skipped), max(skipped)))
        return Observation(Place.LATE if is_known else Place.IN_ORDER)

    def missing(self) -> set[int]:
        return set(range(min(self.came), max(self.came))) - self.came if self.came else set()


@given(st.lists(st.tuples(st.sampled_from("ab"), NUMBERS, st.booleans()), max_size=80))
@example([("a", 1, False), ("a", 9, False), ("a", 5, True), ("a", 5, False), ("a", 12, True), ("a", 10, False)])
def test_sequences_are_what_came_number_by_number(steps: list[tuple[str, int, bool]]) -> None:
    watched, models = client.Sequences(), {"a": Watched(), "b": Watched()}
    for name, number, is_replay in steps:
        assert watched.note(name, number, is_replay=is_replay) == models[name].note(number, is_replay)
        for each, model in models.items():
            ranges = watched.missing(each)
            assert [n for gap in ranges for n in range(gap.first, gap.last + 1)] == sorted(model.missing())


@pytest.mark.parametrize(
    ("numbers", "places"),
    [
        ([1, 2, 3], "in order, in order, in order"),
        ([41, 42], "in order, in order"),  # joined later
        ([1, 2, 2, 1, 3], "in order, in order, repeat, repeat, in order"),
        ([1, 4, 5], "in order, gap, in order"),
        ([1, 4, 2, 3, 3, 5], "in order, gap, late, late, repeat, in order"),
        ([5, 4, 6], "in order, late, in order"),
        ([1, 3, -2, 4], "in order, gap, late, in order"),  # -2: replayed, which fills the gap
        ([3, -1, -2, 4], "in order, late, late, in order"),
        ([3, -3, 4], "in order, repeat, in order"),
        ([-1, -2, 9, 10], "late, late, in order, in order"),  # a replay is no beginning
        ([1, -5, 2], "in order, late, in order"),  # nor does it run ahead
    ],
)
def test_places(numbers: list[int], places: str) -> None:
    watched = client.Sequences()
    found = [watched.note("cnv_1", abs(number), is_replay=number < 0).place.value for number in numbers]
    assert ", ".join(found) == places


def test_events_are_observed_by_their_conversation() -> None:
    watched = client.Sequences()
    first, later = (
        client.Event.from_document(event_with(conversation={"id": "cnv_1", "sequence": number})) for number in (7, 10)
    )
    apart = client.Event.from_document(event_with(conversation=None))
    assert [watched.observe(event).missing for event in (first, apart, later)] == [None, None, Missing(8, 9)]
    assert (str(Missing(8, 9)), str(Missing(8, 8))) == ("8 to 9", "8")
    assert watched.missing("cnv_2") == ()


def test_memory_is_bounded_and_what_is_forgotten_is_never_called_a_repeat() -> None:
    watched = client.Sequences(limit=2)
    for number in range(1, 1001, 2):
        watched.note("a", number)
    assert len(watched.missing("a")) == sequences.RANGES
    assert {watched.note("a", number).place for number in range(2, 1000, 2)} == {Place.LATE}
    watched.note("b", 1)
    watched.note("a", 1001)
    watched.note("c", 1)  # b was heard of longest ago
    assert watched.note("a", 1004).place is Place.GAP
    assert watched.note("b", 3).place is Place.IN_ORDER


# The answer ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (None, 200, None),
        (client.BadSignature(), 401, None),
        (client.TooOld(301), 401, None),
        (client.Malformed(), 400, None),
        (client.InProgress(), 409, None),
        (client.Rejected("no such customer"), 422, None),
        (client.Gone(), 410, None),
        (client.Later("maintenance", seconds=59.1), 503, "60"),
        (client.Later(), 503, "5"),
        (client.Unreachable("hub"), 503, None),
        (ConnectionRefusedError(), 503, None),
        (TimeoutError(), 503, None),
        (client.Problem(503, "unavailable", retry_after=7), 503, "7"),
        (client.Problem(429, "too_many"), 503, None),
        (client.Problem(409, "not_parent"), 500, None),
        (client.Unreadable("what?"), 500, None),
        (KeyError("text"), 500, None),
    ],
)
def test_what_the_hub_is_told(error: Exception | None, status: int, retry_after: str | None) -> None:
    answer = client.answer_for(error)
    assert answer == client.Answer(status, {"Retry-After": retry_after} if retry_after else {})


# Calls --------------------------------------------------------------------------------------------------------------

NUMBER = "/v1/numbers/+15550001111/connection"


@pytest.mark.parametrize(
    ("request_", "method", "path", "body"),
    [
        (calls.connect("+15550001111"), "PUT", NUMBER, {}),
        (
            calls.connect(
                "+15550001111", endpoint_url="https://a.example", event_types=[], display="full", share="all"
            ),
            "PUT",
            NUMBER,
            {"endpoint_url": "https://a.example", "event_types": [], "display": "full", "share": "all"},
        ),
        (calls.connect("+15550001111", on_exhausted="hold"), "PUT", NUMBER, {"on_exhausted": "hold"}),
        (calls.disconnect("+15550001111"), "DELETE", NUMBER, None),
        (calls.pause("+15550001111"), "POST", f"{NUMBER}/pause", {}),
        (calls.resume("+15550001111"), "POST", f"{NUMBER}/resume", {"mode": "continue"}),
        (calls.resume("+15550001111", "skip"), "POST", f"{NUMBER}/resume", {"mode": "skip"}),
        (calls.rotate_secret("+1/../x?"), "POST", "/v1/numbers/+1%2F..%2Fx%3F/connection/rotate-secret", {}),
        (
            calls.reply("cnv_1", "Grüße", agent={"id": "a", "name": "Ana"}, idempotency_key="k"),
            "POST",
            "/v1/conversations/cnv_1/messages",
            {"origin": "agent", "agent": {"id": "a", "name": "Ana"}, "type": "text", "text": "Grüße"},
        ),
        (
            calls.reply("cnv_1", "Hi", origin="chatbot", parent_epoch=3, reply_to=None, idempotency_key="k"),
            "POST",
            "/v1/conversations/cnv_1/messages",
            {"origin": "chatbot", "type": "text", "text": "Hi", "parent_epoch": 3},
        ),
        (calls.events(), "GET", "/v1/events", None),
        (calls.events("a+b=", limit=10), "GET", "/v1/events?after=a%2Bb%3D&limit=10", None),
        (
            calls.events(since="2026-01-31T12:00:00+01:00"),
            "GET",
            "/v1/events?since=2026-01-31T12%3A00%3A00%2B01%3A00",
            None,
        ),
        (calls.stream(), "GET", "/v1/events/stream", None),
        (calls.stream(number="+1555"), "GET", "/v1/events/stream?number=%2B1555", None),
        (calls.replay(conversation_id="cnv_1"), "POST", "/v1/replays", {"conversation_id": "cnv_1"}),
    ],
)
def test_requests(request_: Request[Any], method: str, path: str, body: object) -> None:
    assert (request_.method, request_.path) == (method, path)
    assert (request_.body and json.loads(request_.body)) == body
    assert (request_.headers.get("Content-Type") == "application/json") is (body is not None)


def test_headers_of_requests() -> None:
    assert calls.reply("cnv_1", "x", idempotency_key="evt_1").headers["Idempotency-Key"] == "evt_1"
    assert calls.stream("xyz").headers == {"Accept": "text/event-stream", "Last-Event-ID": "xyz"}
    assert "Last-Event-ID" not in calls.stream().headers


PROBLEM = {
    "type": "/docs/errors#not_parent",
    "title": "Not parent",
    "status": 409,
    "code": "not_parent",
    "detail": "Only the parent may.",
    "errors": [{"pointer": "/origin", "code": "x", "detail": "y"}],
    "parent": {"name": "helpdesk"},
}


def test_a_problem_document_is_an_error_with_a_code() -> None:
    with pytest.raises(client.Problem, match="409 not_parent: Only the parent may") as told:
        client.read_answer(409, {"Retry-After": "30"}, json.dumps(PROBLEM).encode())
    problem = told.value
    assert (problem.status, problem.code, problem.detail) == (409, "not_parent", "Only the parent may.")
    assert problem.errors[0]["pointer"] == "/origin"
    assert problem.facts == {"parent": {"name": "helpdesk"}}
    assert problem.retry_after == 30
    assert not problem.is_temporary


@pytest.mark.parametrize("status", [429, 502, 503, 400])
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"1", b"{}", b"\xff", b'"x"', b'{"errors": 1}'])
def test_a_refusal_by_something_in_between(status: int, body: bytes) -> None:
    with pytest.raises(client.Problem) as told:
        client.read_answer(status, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, body)
    assert (told.value.code, told.value.retry_after) == ("unknown", None)
    assert told.value.is_temporary is (status != 400)


def test_odd_parts_of_a_problem_do_no_harm() -> None:
    with pytest.raises(client.Problem, match="400 7: None") as told:
        client.read_answer(400, {}, b'{"code": 7, "detail": null, "errors": ["x", {}], "status": "x"}')
    assert told.value.errors == ({},)


@pytest.mark.parametrize(("status", "body"), [(302, b""), (101, b""), (200, b"<html>"), (200, b"\xff")])
def test_what_the_hub_would_not_answer(status: int, body: bytes) -> None:
    with pytest.raises(client.Unreadable):
        client.read_answer(status, {}, body)


EXPIRED = {"after_event_id": "evt_1", "upto_event_id": "evt_9"}
PAGE: dict[str, Any] = {"items": [EVENT], "next": "pos", "has_more": True}


def test_a_page_of_the_feed() -> None:
    page = read_page(PAGE)
    assert ([event.id for event in page.events], page.next, page.has_more) == ([DATA["event_id"]], "pos", True)
    assert page.expired is None
    assert read_page(PAGE | {"items": [], "expired": EXPIRED}).expired == client.Expired("evt_1", "evt_9")


@pytest.mark.parametrize(
    "answer",
    [None, [], {}]
    + [PAGE | {name: wrong} for name in PAGE for wrong in (None, 1)]
    + [PAGE | {"items": [{}]}, PAGE | {"expired": {}}, PAGE | {"expired": 1}],
)
def test_what_is_no_page(answer: Any) -> None:
    with pytest.raises(client.Unreadable):
        read_page(answer)


# The hub over HTTP --------------------------------------------------------------------------------------------------


@contextmanager
def serving(answer: bytes) -> Iterator[tuple[str, list[SimpleNamespace]]]:
    """A server that gives this raw answer to everything: its URL, and what it was asked."""
    asked: list[SimpleNamespace] = []

    class Handler(BaseHTTPRequestHandler):
        def _take(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.append(SimpleNamespace(line=self.requestline, headers=self.headers, body=body))
            self.wfile.write(answer)
            self.close_connection = True

        do_GET = do_POST = do_PUT = do_DELETE = _take  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=partial(server.serve_forever, 0.01))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def raw(status: str, body: object) -> bytes:
    content = json.dumps(body).encode()
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(content), content)


def test_calls_go_to_the_hub_with_the_key() -> None:
    with serving(raw("200 OK", {"signing_secret": NEW, **PAGE})) as (url, asked):
        hub = client.Hub(f"{url}/base/", "plk_key")
        assert hub.connect("+1555", endpoint_url="https://a.example")["signing_secret"] == NEW
        assert hub.rotate_secret("+1555")["signing_secret"] == NEW
        hub.pause("+1555")
        hub.resume("+1555", "skip")
        hub.replay(failed=True)
        hub.reply("cnv_1", "Hi", agent={"id": "a", "name": "Ana"}, idempotency_key="k")
        assert hub.events("p", limit=5).next == "pos"
        hub.disconnect("+1555")
    assert [one.line.removesuffix(" HTTP/1.1") for one in asked] == [
        "PUT /base/v1/numbers/+1555/connection",
        "POST /base/v1/numbers/+1555/connection/rotate-secret",
        "POST /base/v1/numbers/+1555/connection/pause",
        "POST /base/v1/numbers/+1555/connection/resume",
        "POST /base/v1/replays",
        "POST /base/v1/conversations/cnv_1/messages",
        "GET /base/v1/events?after=p&limit=5",
        "DELETE /base/v1/numbers/+1555/connection",
    ]
    assert {one.headers["Authorization"] for one in asked} == {"Bearer plk_key"}
    assert asked[5].headers["Idempotency-Key"] == "k"
    assert json.loads(asked[3].body) == {"mode": "skip"}


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", client.Unreachable),
        (b"SMTP 220 hello\r\n", client.Unreachable),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}", client.Unreachable),
        (raw("409 Conflict", PROBLEM), client.Problem),
        (raw("302 Found", None), client.Unreadable),
        (raw("200 OK", []), client.Unreadable),
    ],
)
def test_calls_that_do_not_succeed(answer: bytes, error: type[client.HubError]) -> None:
    with serving(answer) as (url, _), pytest.raises(error):
        client.Hub(url, "k", retries=client.NEVER).connect("+1555")


def test_a_hub_that_is_not_there_or_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(client.Unreachable, match=f"cannot reach {url}: timed out"):
            client.Hub(url, "k", timeout=0.05, retries=client.NEVER).disconnect("+1555")
    with pytest.raises(client.Unreachable, match="refused"):
        client.Hub(url, "k", retries=client.NEVER).disconnect("+1555")


@pytest.mark.parametrize(
    "url", ["", "hub.example.com", "ftp://hub.example.com", "http://", "https:///v1", "http://h:x"]
)
def test_what_is_no_url_is_told_at_once(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|[Pp]ort"):
        client.Hub(url, "k", retries=client.NEVER)


# The live stream ----------------------------------------------------------------------------------------------------

FIELDS = [
    b"data: x",
    b"data:  x ",
    b"data:",
    b"data",
    b"event: e",
    b"id: 7",
    b"id",
    b"id: \0",
    b"retry: 12",
    b"retry: -1",
    b": ping",
]
ODD = [
    "data: ü".encode(),
    b"\xef\xbb\xbf",
    b"\xef\xbb\xbfdata: x",
    b"data: \xff",
    b"data: \xc3",
    b"dat",
    b" data: x",
    b"data : x",
]
LINES = st.tuples(st.sampled_from([b"", b"", *FIELDS, *ODD]), st.sampled_from([b"\n", b"\r", b"\r\n"])).map(b"".join)
STREAMS = st.builds(bytes.__add__, st.lists(LINES, max_size=25).map(b"".join), st.sampled_from([b"", *FIELDS]))


def read(chunks: list[bytes]) -> tuple[list[stream.StreamEvent], str, float | None]:
    reader = client.EventStream()
    events = [event for chunk in chunks for event in reader.feed(chunk)]
    return events, reader.last_event_id, reader.retry


def as_specified(sent: bytes) -> tuple[list[stream.StreamEvent], str, float | None]:
    """The standard's algorithm over a whole stream at once, as slow and plain as it is written."""
    found: list[stream.StreamEvent] = []
    data = kind = last = identity = ""
    retry = None
    lines = re.split("\r\n|\r|\n", sent.decode(errors="replace").removeprefix("\ufeff"))
    for line in lines[:-1]:
        name, _, value = line.partition(":")
        value = value[1:] if value[:1] == " " else value
        if line == "":
            last = identity
            if data:
                found.append(stream.StreamEvent(last, kind or "message", data[:-1]))
            data = kind = ""
        elif name == "data":
            data += value + "\n"
        elif name == "event":
            kind = value
        elif name == "id" and "\0" not in value:
            identity = value
        elif name == "retry" and re.fullmatch("[0-9]+", value):
            retry = int(value) / 1000
    return found, last, retry


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"data: a\n\n", [("", "message", "a")]),
        (b"data:a\rdata:  b \r\n\n", [("", "message", "a\n b ")]),
        (b"\xef\xbb\xbfid:1\nevent: e\ndata\n\ndata: b\n\n", [("1", "e", ""), ("1", "message", "b")]),
        (b"id: 1\ndata: a\n\nid\ndata: b\n\n", [("1", "message", "a"), ("", "message", "b")]),
        (b"id: 1\nid: a\0b\ndata: \xc3\n\n", [("1", "message", "\ufffd")]),
        (b": data: a\n\nevent: e\n\n Data: b\n\ndata: c", []),
    ],
)
def test_streams(sent: bytes, expected: list[tuple[str, str, str]]) -> None:
    assert read([sent])[0] == [stream.StreamEvent(*one) for one in expected]


@given(STREAMS, st.lists(st.integers(0, 150), max_size=12))
def test_any_cut_of_a_stream_gives_the_same_events(sent: bytes, cuts: list[int]) -> None:
    ends = sorted({cut for cut in cuts if cut < len(sent)} | {0, len(sent)})
    pieces = [sent[a:b] for a, b in pairwise(ends)]
    expected = as_specified(sent)
    assert read([sent]) == expected
    assert read(pieces) == expected
    assert read([part for byte in sent for part in (bytes([byte]), b"")]) == expected


def test_a_stream_as_the_hub_sends_it() -> None:
    sent = (
        f": hello\nretry: 1500\n\nid: pos1\nevent: message.received\ndata: {json.dumps(EVENT)}\n\n: ping\n\nid: pos2\n"
    )
    reader = client.EventStream("pos0")
    assert reader.last_event_id == "pos0"
    [one] = reader.feed(sent.encode())
    assert (one.id, one.type, one.read()) == ("pos1", "message.received", client.Event.from_document(EVENT))
    assert (reader.last_event_id, reader.retry) == ("pos1", 1.5)  # what is not complete does not count
    assert reader.feed(b"\n") == []
    assert reader.last_event_id == "pos2"  # a position alone
    [one] = reader.feed(f"event: expired\ndata: {json.dumps(EXPIRED)}\n\n".encode())
    assert (one.id, one.read()) == ("pos2", client.Expired("evt_1", "evt_9"))
    for kind in ("expired", "message.received"):
        for data in ("{}", "[]", "x"):
            with pytest.raises(client.Malformed):
                stream.StreamEvent("", kind, data).read()


def test_an_endless_event_is_refused_and_endless_comments_are_not() -> None:
    reader = client.EventStream(max_bytes=100)
    assert [reader.feed(b": still here\n") for _ in range(50)] == [[]] * 50
    with pytest.raises(client.Malformed, match="over 100 bytes"):
        reader.feed(b"id: 1\ndata: a\n\n" + b"data: x\n" * 60)
    assert reader.last_event_id == ""  # the first event was not given out either
    with pytest.raises(client.Malformed):
        client.EventStream(max_bytes=100).feed(b"x" * 101)


# The page -----------------------------------------------------------------------------------------------------------

BLOCKS = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "client.md").read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("code", BLOCKS)
def test_the_page_is_python_and_names_what_there_is(code: str) -> None:
    tree = compile(code, "client.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)
    imported = [
        node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "partyline_client"
    ]
    assert all(alias.name in client.__all__ for node in imported for alias in node.names)


def test_the_page_keeps_ids_in_a_database() -> None:
    [code] = [code for code in BLOCKS if "sqlite3" in code]
    names: dict[str, Any] = {}
    exec(code, names)
    connection = sqlite3.connect(":memory:")
    connection.execute("create table work (what text)")
    seen: client.Memory = names["SeenInSqlite"](connection)
    for fails, expected in ((True, True), (False, True), (False, False), (True, False)):
        try:
            with seen.handling("evt_1") as is_new:
                assert is_new is expected
                if is_new:
                    connection.execute("insert into work values ('done')")
                if fails:
                    raise ValueError
        except ValueError:
            pass
    assert connection.execute("select * from work").fetchall() == [("done",)]
    connection.close()


PRESENCE: dict[str, Any] = {
    "type": "conversation.presence",
    "timestamp": "2026-11-22T05:01:52.118396Z",
    "data": {
        "number": "+15550001111",
        "channel_id": "chn_1",
        "conversation": {"id": "cnv_1", "medium": "whatsapp"},
        "presence": {
            "service": {"id": "svc_1", "name": "helpdesk"},
            "agent": {"name": "Ana"},
            "state": "typing",
            "since": "2026-11-22T05:01:52.040071Z",
            "expires_at": "2026-11-22T05:02:22.040071Z",
        },
    },
}


def test_d1_a_presence_on_the_stream_moves_no_cursor() -> None:
    reading = stream.EventStream("here")
    (one,) = reading.feed(b"event: conversation.presence\ndata: %b\n\n" % json.dumps(PRESENCE).encode())
    told = one.read()
    assert isinstance(told, client.Presence)
    assert (told.conversation_id, told.state, told.agent) == ("cnv_1", "typing", {"name": "Ana"})
    assert (told.service["name"], told.expires_at.second, told.data["number"]) == ("helpdesk", 22, "+15550001111")
    assert reading.last_event_id == "here"
    for missing in ("conversation", "presence"):
        document = PRESENCE | {"data": {n: v for n, v in PRESENCE["data"].items() if n != missing}}
        with pytest.raises(client.Malformed):
            client.Presence.from_document(document)
