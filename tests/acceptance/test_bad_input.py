"""Bad input of every kind: refused without a word, or kept and answered 200; neighbours never harmed (B1, B5, H1)."""

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
import pytest_asyncio

from tests.support.database import Server
from tests.support.wire import (
    FORM,
    META,
    TWILIO,
    Reply,
    Wire,
    ask,
    envelope,
    raw_http,
    read_reply,
    sms,
    text,
    unique,
    value,
)
from tests.support.world import Service, World, world

pytestmark = pytest.mark.asyncio(loop_scope="module")

MAX_BODY = 4 * 1024 * 1024
STATUS = f"{TWILIO}/status"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def database_address(server: Server) -> AsyncIterator[str]:
    async with server.fresh() as url:
        yield url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(database_address: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """One hub for all of these: none of them may disturb another."""
    async with world(database_address, tmp_path_factory.mktemp("hub")) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def helpdesk(shared: World) -> Service:
    return (await shared.connected("helpdesk"))[0]


@pytest.fixture
def wire(shared: World) -> Wire:
    return Wire(shared)


async def hears(service: Service, body: str) -> dict[str, Any]:
    """Wait for the one message with this text."""
    await service.endpoint.wait(
        lambda me: any(d.data["message"].get("text") == body for d in me.of("message.received"))
    )
    found = [d for d in service.endpoint.of("message.received") if d.data["message"].get("text") == body]
    assert len(found) == 1
    return found[0].data


async def added(wire: Wire, before: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Quarantine entries that were not there before."""
    known = {entry["id"] for entry in before}
    return [entry for entry in await wire.quarantine() if entry["id"] not in known]


# Signatures ---------------------------------------------------------------------------------------------------------


def meta_forgeries(signature: str) -> dict[str, bytes | None]:
    digest = signature.removeprefix("sha256=")
    return {
        "missing": None,
        "empty": b"",
        "prefix only": b"sha256=",
        "wrong": b"sha256=" + b"0" * 64,
        "without prefix": digest.encode(),
        "upper-case digits": b"sha256=" + digest.upper().encode(),
        "upper-case prefix": b"SHA256=" + digest.encode(),
        "one digit short": signature[:-1].encode(),
        "with a tail": signature.encode() + b"00",
        "twice": f"{signature},{signature}".encode(),
        "UTF-8": "sha256=\u00e9".encode() + digest[2:].encode(),
        "no UTF-8": b"sha256=\xff\xfe" + digest[2:].encode(),
        "full-width digits": b"sha256=" + "\uff11".encode() * 64,
        "of another algorithm": b"sha1=" + digest[:40].encode(),
    }


async def test_b1_meta_signatures_that_are_none(wire: Wire, database_address: str) -> None:
    body = json.dumps(envelope(value([text("forged")]))).encode()
    counted = "select (select count(*) from event) + (select count(*) from quarantine) + (select count(*) from message)"
    before = await ask(database_address, counted)
    right = wire.meta_signature(body)
    for name, forged in meta_forgeries(right).items():
        headers = [("Content-Type", b"application/json")]
        headers += [("X-Hub-Signature-256", forged)] if forged is not None else []
        reply = await raw_http(wire.world.hub.url, "POST", META, headers, body)
        assert (reply.status, reply.body) == (403, b""), name
        assert right.removeprefix("sha256=") not in str(reply.headers), name
    legacy = [("X-Hub-Signature", right.encode())]
    assert (await raw_http(wire.world.hub.url, "POST", META, legacy, body)).status == 403
    signed = [("X-Hub-Signature-256", right.encode())]
    assert (await raw_http(wire.world.hub.url, "POST", META, signed, body + b" ")).status == 403
    assert await ask(database_address, counted) == before


async def test_b1_twilio_signatures_that_are_none(wire: Wire, database_address: str) -> None:
    form = sms("forged")
    body = urlencode(form).encode()
    right = wire.twilio_signature(form)
    swapped = base64.b64encode(base64.b64decode(right)[::-1])
    forgeries: dict[str, bytes | None] = {
        "missing": None,
        "empty": b"",
        "wrong": swapped,
        "no base64": b"!!!",
        "upper-case": right.upper().encode(),
        "lower-case": right.lower().encode(),
        "UTF-8": "\u00e9".encode() + right[2:].encode(),
        "no UTF-8": b"\xff" + right[1:].encode(),
        "of another path": wire.twilio_signature(form, STATUS).encode(),
        "of another query": wire.twilio_signature(form, f"{TWILIO}?x=1").encode(),
    }
    before = await ask(database_address, "select count(*) from event")
    for name, forged in forgeries.items():
        headers = [("Content-Type", FORM.encode())]
        headers += [("X-Twilio-Signature", forged)] if forged is not None else []
        reply = await raw_http(wire.world.hub.url, "POST", TWILIO, headers, body)
        assert (reply.status, reply.body) == (403, b""), name
    headers = [("Content-Type", FORM.encode()), ("X-Twilio-Signature", right.encode())]
    assert (await raw_http(wire.world.hub.url, "POST", TWILIO, headers, body + b"&Body=more")).status == 403
    for settings in (b"key=k,algorithm=HMAC_SHA256", b"algorithm=none", b"\xff,algorithm=\xff", b",=,="):
        beta = [*headers, ("X-Twilio-Webhooks-Signature-Settings", settings)]
        reply = await raw_http(wire.world.hub.url, "POST", TWILIO, beta, b"Body=x")
        assert (reply.status, reply.body) == (403, b""), settings
    assert await ask(database_address, "select count(*) from event") == before


async def test_b1_twilio_json_must_be_covered_by_its_hash(wire: Wire) -> None:
    body = json.dumps(dict(sms("json"))).encode()
    plain = {"X-Twilio-Signature": wire.twilio_signature([]), "Content-Type": "application/json"}
    assert await wire.post(TWILIO, body, plain) == Reply(403, *(await _refusal(wire)))
    path = f"{TWILIO}?bodySHA256={'0' * 64}"
    other = {"X-Twilio-Signature": wire.twilio_signature([], path), "Content-Type": "application/json"}
    assert (await wire.post(path, body, other)).status == 403


async def _refusal(wire: Wire) -> tuple[dict[str, str], bytes]:
    reply = await wire.post(TWILIO, b"", {})
    return reply.headers, reply.body


# Bodies that are nothing, validly signed ----------------------------------------------------------------------------

NOTHING = {
    "an empty list": b"[]",
    "an empty object": b"{}",
    "a text": b'"x"',
    "a number": b"1",
    "null": b"null",
    "nothing at all": b"",
    "broken JSON": b'{"entry": [',
    "a second document": b'{"entry": []}{}',
    "NaN": b'{"entry": NaN}',
    "NUL": b"\x00\x00",
    "a lone surrogate": b'"\\ud800"',
    "no UTF-8": b'{"entry": "\xff\xfe"}',
    "UTF-16": "[]".encode("utf-16"),
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"entry":' * 5_000 + b"1" + b"}" * 5_000,
    "entry is an object": b'{"entry": {"changes": []}}',
    "entries of all kinds": b'{"entry": [null, 1, "x", [], {}, {"changes": null}, {"changes": [null, 1, {}]}]}',
    "a field of next year": b'{"entry": [{"changes": [{"field": "dreams", "value": {"dreams": [1]}}]}]}',
}


@pytest.mark.parametrize("body", NOTHING.values(), ids=NOTHING)
async def test_b5_a_signed_body_without_sense_is_kept(wire: Wire, body: bytes) -> None:
    before = await wire.quarantine()
    reply = await wire.meta(body)
    assert reply.status == 200, reply
    kept = await added(wire, before)
    assert kept
    assert all(entry["reason"] and entry["state"] == "open" and entry["provider"] == "meta" for entry in kept)
    if len(kept) == 1:
        assert base64.b64decode(kept[0]["raw"]) == body or b"entry" in base64.b64decode(kept[0]["raw"])
    again = await wire.meta(body)
    assert again.status == 200
    assert [e["id"] for e in await added(wire, before)] == [e["id"] for e in kept]  # counted up, not kept twice


async def test_b5_the_exact_bytes_are_kept_and_repetition_is_counted(wire: Wire) -> None:
    before = await wire.quarantine()
    body = b'{"entry": \x00 broken \xff ' + unique().encode()
    for _ in range(3):
        assert (await wire.meta(body)).status == 200
    (entry,) = await added(wire, before)
    assert base64.b64decode(entry["raw"]) == body
    assert (entry["reason"], entry["times"]) == ("invalid_json", 3)
    one = await wire.world.call("GET", f"/v1/admin/quarantine/{entry['id']}")
    assert one.json["raw"] == entry["raw"]
    answer = await wire.replay(entry)
    assert (answer.status, answer.json["code"]) == (409, "still_quarantined")
    assert answer.json["reasons"] == ["invalid_json"]


@pytest.mark.parametrize(
    "content_type",
    [None, "", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=bogus", "a/b/c;;=;charset",
     "application/json; charset=utf-16", "multipart/form-data; boundary=x"],
)  # fmt: skip
async def test_b5_meta_content_types_do_not_matter_to_the_message(
    wire: Wire, helpdesk: Service, content_type: str | None
) -> None:
    words = f"type {content_type}"
    assert (await wire.meta(envelope(value([text(words)])), content_type)).status == 200
    await hears(helpdesk, words)


@pytest.mark.parametrize("header", [b"application/json; charset=\xff\xfe", b"\xe4/\xf6", "text/größer".encode()])
async def test_b5_a_content_type_that_is_no_text_harms_nobody(wire: Wire, helpdesk: Service, header: bytes) -> None:
    """The header comes from outside like all else: what PostgreSQL cannot hold of it must not cost the message."""
    words = f"header {header!r}"
    before = await wire.quarantine()
    body = json.dumps(envelope(value([text(words)]), value([f"no message {words}"]))).encode()
    headers = [("Content-Type", header), ("X-Hub-Signature-256", wire.meta_signature(body).encode())]
    reply = await raw_http(wire.world.hub.url, "POST", META, headers, body)
    assert reply.status == 200
    await hears(helpdesk, words)
    assert "unexpected_shape" in {entry["reason"] for entry in await added(wire, before)}


@pytest.mark.parametrize("header", [b"application/x-www-form-urlencoded; charset=\xff", b"\xff/\xff"])
async def test_b5_the_same_from_twilio(wire: Wire, helpdesk: Service, header: bytes) -> None:
    words = f"twilio {header!r}"
    form = sms(words)
    headers = [("Content-Type", header), ("X-Twilio-Signature", wire.twilio_signature(form).encode())]
    reply = await raw_http(wire.world.hub.url, "POST", TWILIO, headers, urlencode(form).encode())
    assert (reply.status, reply.body) == (200, b"<Response/>")
    await hears(helpdesk, words)


async def test_b5_odd_paths_are_kept_and_can_be_replayed(wire: Wire) -> None:
    """A path may be written in several ways; the entry must still find its route."""
    for path in ("/webhooks/%6deta", f"http://hub{META}", f"{META}?x=%ff%00", f"{META}?x=1", f"{META}?x=\udcff"):
        before = await wire.quarantine()
        body = b"odd path " + unique().encode()
        signature = wire.meta_signature(body).encode()
        reply = await raw_http(wire.world.hub.url, "POST", path, [("X-Hub-Signature-256", signature)], body)
        if reply.status == 400:  # refused as no HTTP, before anybody could know whose it is
            assert "\udcff" in path
            continue
        assert reply.status == 200, path
        (entry,) = await added(wire, before)
        assert (await wire.replay(entry)).status == 409, path


# Bad items among good ones ------------------------------------------------------------------------------------------

BAD_ITEMS: dict[str, Any] = {
    "a text": "no message",
    "a number": 7,
    "a list": [],
    "an empty object": {},
    "without type": {"id": "wamid.without-type", "from": "4915112345678"},
    "of wrong types": {"id": {"a": 1}, "from": ["x"], "type": {"y": 2}, "timestamp": "soon", "text": 5},
    "a huge timestamp": {"id": "wamid.huge", "from": "4915112345678", "timestamp": "9" * 400, "type": "text"},
    "nested deeply": {"id": "wamid.deep", "from": "4915112345678", "type": "x", "x": None},
    "from nobody": {"id": "wamid.nobody", "type": "text", "text": {"body": "x"}},
    "a huge id": {"id": "wamid." + "x" * 100_000, "from": "4915112345678", "type": "text", "text": {"body": "huge"}},
}


@pytest.mark.parametrize("bad", BAD_ITEMS.values(), ids=BAD_ITEMS)
async def test_b5_good_neighbours_are_delivered(wire: Wire, helpdesk: Service, bad: Any) -> None:
    if isinstance(bad, dict) and bad.get("id") == "wamid.deep":
        inner: Any = 1
        for _ in range(300):
            inner = {"a": inner}
        bad = bad | {"x": inner}
    first, last = unique("before "), unique("after ")
    body = envelope(value([text(first), bad, text(last)]), value([bad]), value([text(f"{last}.")]))
    assert (await wire.meta(body)).status == 200
    for words in (first, last, f"{last}."):
        await hears(helpdesk, words)


async def test_b5_lone_surrogates_and_nul_are_cleaned_and_the_bytes_kept(wire: Wire, helpdesk: Service) -> None:
    good, mark = unique("good "), unique("mark ")
    odd = text("ODD", profile={"\\ud800": 1})
    body = json.dumps(envelope(value([text(good), odd, text(f"{good}!")])))
    raw = body.replace("ODD", f"{mark}\\ud800 and \\u0000 and \\udfff end").encode()
    before = await wire.quarantine()
    assert (await wire.meta(raw)).status == 200
    await hears(helpdesk, good)
    await hears(helpdesk, f"{mark} and  and  end")
    await hears(helpdesk, f"{good}!")
    (note,) = await added(wire, before)
    assert (note["reason"], note["state"]) == ("text_cleaned", "noted")
    assert base64.b64decode(note["raw"]) == raw


async def test_b5_surrogates_everywhere_else(wire: Wire, helpdesk: Service) -> None:
    """In ids, names, addresses, keys, the metadata: never 5xx, and the neighbour arrives."""
    good = unique("neighbour ")
    message = text("x")
    contact = {"wa_id": "4915112345678", "profile": {"name": "SUR"}}
    places: list[dict[str, Any]] = [
        envelope(value([text("x") | {"id": f"SUR{unique()}"}, text(f"{good}a")])),
        envelope(value([text("x") | {"from": "SUR"}, text(f"{good}b")])),
        envelope(value([text("x") | {"type": "SUR", "SUR": "SUR"}, text(f"{good}c")])),
        envelope(value([message, text(f"{good}d")], contacts=[contact])),
        envelope(value([text("x") | {"context": {"id": "SUR", "from": "SUR"}}, text(f"{good}e")])),
        envelope(value([{"id": "SUR", "status": "SUR", "recipient_id": "SUR"}], name="statuses"),
                 value([text(f"{good}f")])),
        envelope(value(["SUR"]), value([text(f"{good}g")])),
        envelope(value([text("x")], number_id="SUR"), value([text(f"{good}h")])),
        envelope(value([{"SUR": 1}], name="SUR"), value([text(f"{good}i")]), field="messages"),
    ]  # fmt: skip
    for letter, body in zip("abcdefghi", places, strict=True):
        for escape in ("\\ud800", "\\u0000", "\\udc00\\ud800"):
            raw = json.dumps(body).replace("SUR", escape).encode()
            assert (await wire.meta(raw)).status == 200, (letter, escape)
        await hears(helpdesk, f"{good}{letter}")


async def test_b5_h2_what_postgres_refuses_is_set_aside_alone(wire: Wire, helpdesk: Service) -> None:
    """An address too long for an index: the item waits in quarantine, its replay is refused and not a fault of ours."""
    endless = base64.b64encode(os.urandom(20_000)).decode()
    good = unique("fine ")
    before = await wire.quarantine()
    body = envelope(value([text(f"{good}a"), text("x", endless), text(f"{good}b")]))
    assert (await wire.meta(body)).status == 200
    for letter in "ab":
        await hears(helpdesk, f"{good}{letter}")
    (entry,) = await added(wire, before)
    assert entry["reason"] == "not_storable"
    answer = await wire.replay(entry)
    assert (answer.status, answer.json["code"]) == (409, "still_quarantined")
    assert (await wire.meta(body)).status == 200
    (entry,) = await added(wire, before)
    assert entry["times"] == 2


async def test_b5_a_thousand_items_for_an_unknown_number_take_no_time(wire: Wire) -> None:
    """Meta packs up to 1,000 updates: setting each aside must not read the whole body again."""
    before = await wire.quarantine()
    body = json.dumps(envelope(value([text(f"t{n}") for n in range(1_000)], number_id="404"))).encode()
    started = asyncio.get_running_loop().time()
    assert (await wire.meta(body)).status == 200
    assert asyncio.get_running_loop().time() - started < 3
    assert len(await added(wire, before)) == 1_000


# Twilio's bodies ----------------------------------------------------------------------------------------------------


async def test_b5_twilio_bodies_without_sense(wire: Wire) -> None:
    for form in ([], [("a", "")], [("", "")], [("Body", "x")], [("From", "+15557654321"), ("\x00", "\x00")]):
        before = await wire.quarantine()
        reply = await wire.twilio([*form, ("mark", unique())])
        assert (reply.status, reply.body) == (200, b"<Response/>"), form
        assert reply.headers["content-type"].startswith("text/xml")
        kept = await added(wire, before)
        assert kept, form
        assert all(entry["provider"] == "twilio" for entry in kept)


@pytest.mark.parametrize("body", NOTHING.values(), ids=NOTHING)
async def test_b5_twilio_json_without_sense(wire: Wire, body: bytes) -> None:
    before = await wire.quarantine()
    assert (await wire.twilio_json(body)).status == 200
    assert await added(wire, before)


@pytest.mark.parametrize(
    "content_type",
    [f"{FORM}; charset=bogus", f"{FORM}; charset=\u00e9", f"{FORM};charset=utf-16", None, "", "text/plain",
     f'{FORM}; charset="'],
)  # fmt: skip
async def test_b5_twilio_content_types_do_not_cost_the_message(
    wire: Wire, helpdesk: Service, content_type: str | None
) -> None:
    words = f"größer {content_type}"
    assert (await wire.twilio(sms(words), content_type)).status == 200
    await hears(helpdesk, words)


async def test_b5_twilio_json_and_repeated_and_broken_parameters(wire: Wire, helpdesk: Service) -> None:
    words = unique("json ")
    assert (await wire.twilio_json(json.dumps(dict(sms(words))).encode())).status == 200
    await hears(helpdesk, words)

    words = unique("surrogates ")
    raw = json.dumps(dict(sms(f"{words}XX"))).replace("XX", "\\ud800\\u0000").encode()
    before = await wire.quarantine()
    assert (await wire.twilio_json(raw)).status == 200
    await hears(helpdesk, words)
    (note,) = await added(wire, before)
    assert (note["reason"], note["state"]) == ("text_cleaned", "noted")

    words = unique("nul ")
    assert (await wire.twilio(sms(f"{words}\x00"))).status == 200
    await hears(helpdesk, words)
    words = unique("twice ")
    assert (await wire.twilio([*sms(words), ("Body", "second"), ("Blank", "")])).status == 200
    await hears(helpdesk, words)


async def test_b5_bytes_that_are_no_utf8_in_a_form(wire: Wire, helpdesk: Service) -> None:
    words = unique("latin ")
    form = sms(f"{words}\ufffd")  # what the bytes are read as, by the hub and for the signature
    body = urlencode(form).replace("%EF%BF%BD", "%FC").encode()
    headers = {"X-Twilio-Signature": wire.twilio_signature(form), "Content-Type": FORM}
    before = await wire.quarantine()
    assert (await wire.post(TWILIO, body, headers)).status == 200
    await hears(helpdesk, f"{words}\ufffd")
    (note,) = await added(wire, before)
    assert base64.b64decode(note["raw"]) == body


# Sizes --------------------------------------------------------------------------------------------------------------


def padded(body: dict[str, Any], size: int) -> bytes:
    raw = json.dumps(body).encode()
    return raw[:-1] + b" " * (size - len(raw)) + b"}"


async def chunks(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 65_536):
        yield body[start : start + 65_536]


async def test_b5_four_mebibytes_are_taken_and_not_one_byte_more(wire: Wire, helpdesk: Service) -> None:
    words = unique("big ")
    body = padded(envelope(value([text(words)])), MAX_BODY)
    assert len(body) == MAX_BODY
    assert (await wire.meta(body)).status == 200
    await hears(helpdesk, words)
    chunked = padded(envelope(value([text(f"{words} chunked")])), MAX_BODY)
    headers = {"X-Hub-Signature-256": wire.meta_signature(chunked), "Content-Type": "application/json"}
    assert (await wire.post(META, chunks(chunked), headers)).status == 200
    await hears(helpdesk, f"{words} chunked")
    over = body + b" "
    assert (await wire.meta(over)).status == 413
    headers["X-Hub-Signature-256"] = wire.meta_signature(over)
    assert (await wire.post(META, chunks(over), headers)).status == 413


async def test_b5_a_large_text_arrives_whole(wire: Wire, helpdesk: Service) -> None:
    words = unique("long ") + "x" * 3_000_000
    assert (await wire.meta(envelope(value([text(words)])))).status == 200
    await hears(helpdesk, words)


@pytest.mark.parametrize("path", [META, TWILIO, STATUS])
async def test_b5_an_announced_giant_is_refused_unread(wire: Wire, path: str) -> None:
    parts = urlsplit(wire.world.hub.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    head = f"POST {path} HTTP/1.1\r\nHost: hub\r\nContent-Length: {MAX_BODY + 1}\r\n\r\n"
    writer.write(head.encode())  # and not one byte of the body
    async with asyncio.timeout(5):
        answer = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    assert read_reply(answer).status == 413


# The handshake ------------------------------------------------------------------------------------------------------


async def test_the_handshake_answers_the_challenge_only_to_who_knows_the_word(wire: Wire) -> None:
    token = wire.world.simulator.meta_verify_token
    good = {"hub.mode": "subscribe", "hub.verify_token": token, "hub.challenge": "1158201444"}
    url = wire.world.hub.url + META

    async def shake(query: dict[str, str] | str) -> tuple[int, str]:
        suffix = query if isinstance(query, str) else urlencode(query)
        reply = await raw_http(wire.world.hub.url, "GET", f"{META}?{suffix}", [])
        return reply.status, reply.body.decode()

    assert await shake(good) == (200, "1158201444")
    assert await wire.world.simulator.handshake()
    bad: list[dict[str, str] | str] = [
        good | {"hub.verify_token": "wrong"},
        good | {"hub.verify_token": token.upper()},
        good | {"hub.verify_token": ""},
        good | {"hub.verify_token": "\u00e9"},
        good | {"hub.mode": "unsubscribe"},
        {name: part for name, part in good.items() if name != "hub.verify_token"},
        {name: part for name, part in good.items() if name != "hub.mode"},
        {name: part for name, part in good.items() if name != "hub.challenge"},
        "hub.mode=subscribe&hub.challenge=1&hub.verify_token=%ff%fe",
        "",
    ]
    for query in bad:
        assert await shake(query) == (403, ""), query
    status, _ = await shake(f"hub.mode=subscribe&hub.verify_token={token}&hub.challenge=%ff%00%ed%a0%80")
    assert status < 500
    async with wire.world.session.get(url, params=good | {"hub.challenge": "<script>"}) as answer:
        assert answer.content_type == "text/plain"


# Numbers nobody registered ------------------------------------------------------------------------------------------


async def test_b5_an_unknown_number_waits_until_it_is_registered(wire: Wire, shared: World) -> None:
    words = unique("early ")
    before = await wire.quarantine()
    bodies = [text(f"{words}a", "5511987654321"), text(f"{words}b", "5511987654321")]
    assert (await wire.meta(envelope(value(bodies, number_id="100000000000777")))).status == 200
    kept = await added(wire, before)
    assert [entry["reason"] for entry in kept] == ["unknown_number"] * 2
    assert all("100000000000777" in entry["detail"] for entry in kept)
    refused = await wire.replay(kept[0])
    assert (refused.status, refused.json["code"]) == (409, "still_quarantined")

    number = "+15550007777"
    senders = [{"medium": "whatsapp", "provider": "meta", "external_id": "100000000000777"}]
    made = await shared.call("POST", "/v1/admin/numbers", {"e164": number, "senders": senders})
    assert made.status == 201
    late = await shared.service("late")
    await late.connect(number)
    for entry in kept:
        answer = await wire.replay(entry)
        assert (answer.status, answer.json["taken"], answer.json["duplicates"]) == (200, 1, 0)
    for letter in "ab":
        data = await hears(late, f"{words}{letter}")
        assert data["number"] == number
    assert [d.data["conversation"]["sequence"] for d in late.endpoint.of("message.received")] == [1, 2]
    again = await wire.replay(kept[0])
    assert (again.status, again.json["taken"], again.json["duplicates"]) == (200, 0, 1)
    states = {entry["id"]: entry["state"] for entry in await added(wire, before)}
    assert set(states.values()) == {"replayed"}
    # Meta's own retry of the whole body is nothing new either.
    assert (await wire.meta(envelope(value(bodies, number_id="100000000000777")))).status == 200
    assert len(late.endpoint.of("message.received")) == 2


async def test_b5_without_metadata_nobody_knows_whose_it_is(wire: Wire, helpdesk: Service) -> None:
    good = unique("with ")
    before = await wire.quarantine()
    without = value([text("without")], number_id=None)
    status = value([{"id": "wamid.q", "status": "sent", "recipient_id": "49"}], name="statuses", number_id=None)
    odd = value([text("odd")], metadata={"phone_number_id": {"a": 1}})
    assert (await wire.meta(envelope(without, status, value([text(good)]), odd))).status == 200
    await hears(helpdesk, good)
    assert [entry["reason"] for entry in await added(wire, before)] == ["no_number"] * 3


async def test_b5_an_unknown_twilio_number_waits_too(wire: Wire, shared: World) -> None:
    words = unique("sms ")
    before = await wire.quarantine()
    assert (await wire.twilio(sms(words, to="+15550008888"))).status == 200
    (entry,) = await added(wire, before)
    assert entry["reason"] == "unknown_number"
    senders = [{"medium": "sms", "provider": "twilio", "external_id": "+15550008888"}]
    await shared.call("POST", "/v1/admin/numbers", {"e164": "+15550008888", "senders": senders})
    late = await shared.service("late sms")
    await late.connect("+15550008888")
    assert (await wire.replay(entry)).status == 200
    await hears(late, words)


# The API ------------------------------------------------------------------------------------------------------------


def is_problem(answer: Any, status: int | None = None, code: str | None = None) -> bool:
    kind = answer.headers.get("Content-Type", "").partition(";")[0]
    assert kind == "application/problem+json", answer
    assert {"type", "title", "status", "code", "detail", "errors"} <= set(answer.json), answer
    assert answer.json["status"] == answer.status
    assert 400 <= answer.status < 500, answer
    assert status in {None, answer.status}, answer
    assert code in {None, answer.json["code"]}, answer
    return True


async def test_h1_five_faults_of_a_number_are_all_reported(shared: World) -> None:
    senders = [
        {"medium": "fax", "provider": "meta", "external_id": "1"},
        {"medium": "sms", "provider": "meta", "external_id": "1"},
        {"medium": "sms", "provider": "twilio", "external_id": ""},
        {"medium": "sms", "provider": "twilio", "external_id": "0171"},
    ]
    answer = await shared.call("POST", "/v1/admin/numbers", {"e164": "0171 555", "senders": senders, "extra": 1})
    assert is_problem(answer, 422, "invalid_request")
    pointers = [fault["pointer"] for fault in answer.json["errors"]]
    assert {
        "/e164",
        "/senders",
        "/senders/0/medium",
        "/senders/1/provider",
        "/senders/2/external_id",
        "/senders/3/external_id",
        "/extra",
    } == {*pointers}
    assert all(fault["code"] and fault["detail"] for fault in answer.json["errors"])


async def test_h1_five_faults_of_a_message_are_all_reported(shared: World, helpdesk: Service) -> None:
    """Also the one that only two fields together show: an agent's message without an agent (E1)."""
    nowhere = f"/v1/conversations/cnv_{'0' * 32}/messages"
    body = {"origin": "agent", "type": "telepathy", "text": "", "parent_epoch": -1, "seen_sequence": "x", "bogus": 1}
    answer = await helpdesk.call("POST", nowhere, body)
    assert is_problem(answer, 422, "invalid_request")
    pointers = {fault["pointer"] for fault in answer.json["errors"]}
    assert {"/type", "/text", "/parent_epoch", "/seen_sequence", "/bogus"} <= pointers
    assert "/agent" in pointers
    campaign = await helpdesk.call("POST", nowhere, {"origin": "campaign", "text": ""})
    assert {fault["pointer"] for fault in campaign.json["errors"]} == {"/text", "/campaign"}
    surrogate = await helpdesk.call("POST", nowhere, {"origin": "agent", "agent": {"id": "\x00"}, "text": "a\x00b"})
    assert {fault["pointer"] for fault in surrogate.json["errors"]} == {"/agent/id", "/text"}


async def test_h1_services_and_connections_report_all_faults_too(shared: World, helpdesk: Service) -> None:
    answer = await shared.call("POST", "/v1/admin/services", {"name": "", "plan": 1, "scopes": ["fly"], "x": 1})
    assert is_problem(answer, 422, "invalid_request")
    assert {f["pointer"] for f in answer.json["errors"]} == {"/name", "/plan", "/scopes/0", "/x"}
    body = {"endpoint_url": 5, "display": "loud", "event_types": "all", "share": 1, "x": 1}
    answer = await helpdesk.call("PUT", "/v1/numbers/+15550001111/connection", body)
    assert is_problem(answer, 422, "invalid_request")
    tops = {fault["pointer"].split("/")[1] for fault in answer.json["errors"]}
    assert tops == {"endpoint_url", "display", "event_types", "share", "x"}


NO_JSON = [b"", b"[]", b'"x"', b"{", b"null", b"\xff", b"\x00", b'{"name": "\\ud800"}', b"[" * 100_000]


@pytest.mark.parametrize("body", NO_JSON, ids=[repr(body[:12]) for body in NO_JSON])
async def test_h1_api_bodies_that_are_no_json_object(shared: World, helpdesk: Service, body: bytes) -> None:
    places = [
        ("POST", "/v1/admin/services", None),
        ("POST", "/v1/admin/numbers", None),
        ("POST", f"/v1/conversations/cnv_{'0' * 32}/messages", helpdesk.key),
    ]
    for method, path, key in places:
        answer = await _raw_call(shared, method, path, key, body)
        assert is_problem(answer, 422, "invalid_json"), path


async def _raw_call(shared: World, method: str, path: str, key: str | None, body: bytes = b"") -> Any:
    """As `World.call`, with any body and a path that no client tidies."""
    from tests.support.world import ADMIN, Answer

    headers = [("Authorization", f"Bearer {key or ADMIN}".encode()), ("Content-Type", b"application/json")]
    reply = await raw_http(shared.hub.url, method, path, headers, body)
    content: Any = json.loads(reply.body) if "json" in reply.headers.get("content-type", "") else reply.body
    return Answer(reply.status, content, {name.title(): part for name, part in reply.headers.items()})


def bad_calls() -> Iterator[tuple[str, str, int, str]]:
    """Calls with the operator's key, or a service's for what is not under admin."""
    nine = "9" * 5_000
    ghost = "0" * 32
    yield "GET", "/nowhere", 404, "not_found"
    yield "GET", "/v1/nowhere", 404, "not_found"
    yield "GET", "/v1/admin/../../etc/passwd", 404, "not_found"
    yield "PUT", META, 405, "method_not_allowed"
    yield "GET", TWILIO, 405, "method_not_allowed"
    yield "DELETE", "/v1/admin/services", 405, "method_not_allowed"
    yield "PATCH", "/v1/conversations", 405, "method_not_allowed"
    for bad in (
        "svc_x",
        f"cnv_{ghost}",
        f"svc_{ghost}",
        "svc_" + "z" * 32,
        "%00",
        "%ff",
        "svc_" + "0" * 33,
        "%e2%98%8e",
    ):
        yield "GET", f"/v1/admin/services/{bad}", 404, "not_found"
    for bad in ("x", "-1", "0", nine[:100], "%00", "1.5", "%d9%a1"):
        yield "GET", f"/v1/admin/quarantine/{bad}", 404, "not_found"
        yield "POST", f"/v1/admin/quarantine/{bad}/replay", 404, "not_found"
    for bad in ("0", "-1", "201", "x", "", "1.5", "1e3", nine, "%00", "%d9%a1", "%ff"):
        for path in ("/v1/admin/services", "/v1/admin/numbers", "/v1/admin/quarantine", "/v1/admin/events",
                     "/v1/admin/audit", "/v1/conversations", "/v1/numbers", "/v1/deliveries"):  # fmt: skip
            yield "GET", f"{path}?limit={bad}", 422, "invalid_request"
    for bad in ("-1", "x", nine, "99999999999999999999"):
        yield "GET", f"/v1/admin/quarantine?after={bad}", 422, "invalid_request"
        yield "GET", f"/v1/numbers?after={bad}", 422, "invalid_request"
    yield "GET", "/v1/admin/quarantine?state=lost", 422, "invalid_request"
    for bad in ("evt_x", "evt_-1", "evt_-" + "f" * 40, "evt_" + "f" * 40, "x", "%00", "evt_"):
        yield "GET", f"/v1/admin/events?after={bad}", 422, "invalid_request"
    for bad in ("soon", "", "%00", "2026-13-01", nine):
        yield "GET", f"/v1/deliveries?before={bad}", 422, "invalid_request"
    for bad in ("x", f"msg_{ghost}", "%00", "cnv_", f"cnv_{ghost}"):
        yield "GET", f"/v1/conversations/{bad}", 404, "not_found"
        yield "GET", f"/v1/conversations/{bad}/messages", 404, "not_found"
        yield "GET", f"/v1/messages/{bad}", 404, "not_found"
    yield "GET", "/v1/numbers/%00", 422, "invalid_request"
    for bad in ("+999", "x", "%ff", "+15559999999", nine):
        yield "GET", f"/v1/numbers/{bad}", 404, "not_found"
        yield "DELETE", f"/v1/numbers/{bad}/connection", 404, "not_found"


async def test_h1_bad_paths_ids_and_limits_have_stable_codes(shared: World, helpdesk: Service) -> None:
    wrong = {}
    for method, path, status, code in bad_calls():
        key = helpdesk.key if path.startswith("/v1/") and "/admin/" not in path else None
        answer = await _raw_call(shared, method, path, key)
        try:
            is_problem(answer, status, code)
        except (AssertionError, AttributeError):
            wrong[f"{method} {path[:80]}"] = (answer.status, answer.json)
    assert not wrong


async def test_h1_times_at_the_edges_of_the_calendar(shared: World, helpdesk: Service) -> None:
    for edge in ("0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59-14:00", "0001-01-01"):
        answer = await _raw_call(shared, "GET", f"/v1/deliveries?before={edge}", helpdesk.key)
        assert answer.status in {200, 422}, answer
    answer = await _raw_call(shared, "GET", f"/v1/admin/events?after=evt_{'f' * 16}", None)
    assert (answer.status, answer.json["items"]) == (200, [])


async def test_h1_keys_that_are_none(shared: World) -> None:
    for given in (None, b"", b"Bearer", b"Bearer ", b"Basic abc", b"Bearer wrong", b"Bearer \xff\xfe", b"\xff \xff"):
        headers = [("Authorization", given)] if given is not None else []
        for path, statuses in (("/v1/conversations", {401}), ("/v1/admin/services", {401, 403})):
            reply = await raw_http(shared.hub.url, "GET", path, headers)
            assert reply.status in statuses, (path, given)
            assert json.loads(reply.body)["code"] in {"unauthorized", "operator_only"}


async def test_h1_an_api_body_over_the_limit_is_413(shared: World) -> None:
    body = json.dumps({"name": "x" * MAX_BODY, "plan": "bundle"}).encode()
    answer = await _raw_call(shared, "POST", "/v1/admin/services", None, body)
    assert is_problem(answer, 413, "too_large")


async def test_nothing_of_all_this_killed_a_loop(shared: World) -> None:
    """Last in this file: the hub that took all of it is as ready as at the start."""
    assert (await shared.call("GET", "/readyz")).json == {"status": "ready"}
    metrics = (await shared.call("GET", "/metrics")).json.decode()
    deaths = [line for line in metrics.splitlines() if line.startswith("partyline_loop_restarts_total{")]
    assert all(line.endswith(" 0.0") for line in deaths), deaths
