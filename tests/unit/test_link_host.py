"""What each host serves, and that nothing of a request gets into a redirect, byte by byte (rule F)."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from unittest.mock import Mock
from uuid import UUID

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from hub.domain.link_tokens import digest, new_token, token_of
from hub.domain.stitching import IDENTIFIES, REDIRECTS
from hub.domain.tracking import Tracking
from hub.http import link_misses
from hub.http.client_address import ClientAddresses
from hub.http.link_answers import may_be_ready, with_key
from hub.http.link_cache import Link, LinkCache
from hub.http.link_host import LinkHost, role_of
from hub.http.link_misses import MISSES_PER_MINUTE, Misses
from hub.http.redirect import Redirect
from hub.http.server import Server
from hub.store.clicks import Click
from tests.support.wire import Reply, read_reply

TOKEN = "Abc123xyZ90"
SHORT = "Abc123xy"
TARGET = "https://www.shop.example/a?b=c#d"
PERSON = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/137.0.0.0 Safari/537.36"
)
NOW = datetime.now(UTC)

# Hosts --------------------------------------------------------------------------------------------------------------

SPLIT = Tracking("https://go.shop.example", "https://c.shop.example:8443", ("shop.example",))
ONE = Tracking("http://go.shop.localhost:8080", "", ("shop.localhost",))
PUBLIC = "hub.example.com"


@pytest.mark.parametrize(
    ("tracking", "public", "host", "role"),
    [
        (SPLIT, PUBLIC, "go.shop.example", "links"),
        (SPLIT, PUBLIC, "GO.Shop.Example", "links"),
        (SPLIT, PUBLIC, "go.shop.example.", "links"),
        (SPLIT, PUBLIC, "go.shop.example:443", "links"),
        (SPLIT, PUBLIC, "go.shop.example:", "links"),
        (SPLIT, PUBLIC, " go.shop.example ", "links"),
        (SPLIT, PUBLIC, "go.shop.example:8443", "other"),
        (SPLIT, PUBLIC, "go.shop.example.evil.example", "other"),
        (SPLIT, PUBLIC, "evil.example/go.shop.example", "other"),
        (SPLIT, PUBLIC, "evil.example@go.shop.example", "other"),
        (SPLIT, PUBLIC, "go.shop.example@evil.example", "other"),
        (SPLIT, PUBLIC, "c.shop.example:8443", "collector"),
        (SPLIT, PUBLIC, "c.shop.example", "other"),
        (SPLIT, PUBLIC, PUBLIC, "other"),
        (SPLIT, PUBLIC, "", "other"),
        (SPLIT, PUBLIC, ":", "other"),
        (SPLIT, PUBLIC, "127.0.0.1:8080", "other"),
        (SPLIT, PUBLIC, "[::1]:8080", "other"),
        (SPLIT, "go.shop.example", "go.shop.example", "shared"),
        (SPLIT, "c.shop.example:8443", "c.shop.example:8443", "other"),
        (SPLIT, "c.shop.example:8443", "go.shop.example", "links"),
        (ONE, PUBLIC, "go.shop.localhost:8080", "links"),
        (ONE, PUBLIC, "go.shop.localhost", "other"),
        (ONE, "go.shop.localhost:8080", "go.shop.localhost:8080", "shared"),
        (Tracking("http://[::1]:8080"), PUBLIC, "[::1]:8080", "links"),
        (Tracking("http://[::1]"), PUBLIC, "[::1]", "links"),
        (Tracking(), PUBLIC, "", "other"),
        (Tracking(), "", "", "other"),
    ],
)
def test_what_a_host_is_there_for(tracking: Tracking, public: str, host: str, role: str) -> None:
    assert role_of(host, tracking, public) == role


# Requests, byte by byte ---------------------------------------------------------------------------------------------


def a_link(target: str = TARGET, **more: Any) -> Link:
    made = NOW - timedelta(hours=1)
    known = {
        "id": UUID(int=1), "target": target, "medium": "sms", "is_personal": True, "created_at": made,
        "disabled_at": None, "accepted_at": made, "identifies_until": made + IDENTIFIES,
        "redirects_until": made + REDIRECTS, "site": "shop.example", "is_foreign": False, "round": 0,
    }  # fmt: skip
    return Link(**(known | more))


@dataclass
class Front:
    """A server with links and no database; `clicks` is what it took down."""

    links: dict[bytes, Link]
    clicks: list[Click] = field(default_factory=list)
    is_away: bool = False
    port: int = 0
    is_stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def get(self, token_hash: bytes) -> Link | None:
        return self.links.get(token_hash)

    peek = get

    def is_unknown(self, _: bytes) -> bool:
        return False

    async def find(self, _: bytes) -> Link | None:
        return None

    async def comes_back(self, _: float) -> bool:
        return True

    def submit(self, click: Click) -> "asyncio.Future[None]":
        self.clicks.append(click)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def ask(self, target: bytes, *headers: bytes, method: bytes = b"GET", agent: bytes | None = None) -> Reply:
        """One request with these bytes, on a connection of its own."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        lines = [b"%b %b HTTP/1.1" % (method, target), b"Host: go.shop.example", b"Connection: close"]
        lines += [b"User-Agent: " + (PERSON.encode() if agent is None else agent), *headers]
        writer.write(b"\r\n".join(lines) + b"\r\n\r\n")
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
        return read_reply(answer)


@pytest.fixture
async def front() -> AsyncIterator[Front]:
    made = Front({digest(token): a_link() for token in (TOKEN, SHORT)})
    app = web.Application()
    redirect = Redirect(cast("LinkCache", made), made, SPLIT, ClientAddresses(), made.is_stopping)
    server = Server(app, LinkHost(SPLIT, PUBLIC, redirect, made.is_stopping.is_set).before)
    made.port = int((await server.listen("127.0.0.1", 0)).rpartition(":")[2])
    yield made
    await server.stop()


FOLLOWED = [
    b"/%s", b"/%s?", b"/%s?next=https://evil.example", b"/%s?//evil.example/%%2e%%2e", b"/%s#x", b"/%s.", b"/%s)",
    b"/%s,and", b"/%s%%0d%%0aSet-Cookie:%%20a=b", b"/%s%%0D%%0ALocation:%%20https://evil.example",
    b"/%s%%0a%%0a<script>", b"/%s%%2f..%%2f..%%2fetc", b"/%s\\\\evil.example", b"/%s;x=y", b"/%s@evil.example",
    b"/%s:80", b"/%s\xe2\x80\xa6", b"/%s%%00", b"/%s*_hk=AAAA", b"/%s?_hk=AAAA&__Host-hv=AAAAAAAAAAAAAAAAAAAAAA",
    b"/%s?utm_source=evil",
]  # fmt: skip
NOT_FOLLOWED = [
    b"/", b"//%s", b"//evil.example/%s", b"/\\%s", b"/%%2f%s", b"/./%s", b"/../%s", b"/%sx", b"/%sxyz", b"/%s/",
    b"/%s/../admin", b"/v1/%s", b"/-%s", b"/x/%s", b"/%%41%s", b"https://evil.example/%s", b"https://go.shop.example/%s",
    b"*", b"/t.js/%s",
]  # fmt: skip


@pytest.mark.parametrize("path", FOLLOWED, ids=[f"{n}" for n in range(len(FOLLOWED))])
async def test_what_follows_a_token_changes_nothing(front: Front, path: bytes) -> None:
    reply = await front.ask(path % TOKEN.encode())
    if reply.status == 400:  # refused before anybody looked at it
        assert front.clicks == []
        return
    assert (reply.status, reply.headers["location"], reply.body) == (302, TARGET, b"")
    assert "evil" not in repr(reply.headers)
    assert len(front.clicks) == 1


@pytest.mark.parametrize("path", NOT_FOLLOWED, ids=[f"{n}" for n in range(len(NOT_FOLLOWED))])
async def test_what_does_not_begin_with_a_token_is_none(front: Front, path: bytes) -> None:
    reply = await front.ask(path.replace(b"%s", TOKEN.encode()).replace(b"%%", b"%"))
    assert reply.status in {400, 404, 421}
    assert "location" not in reply.headers
    assert front.clicks == []


@pytest.mark.parametrize(
    "headers",
    [
        (b"X-Forwarded-Host: evil.example",),
        (b"Forwarded: host=evil.example",),
        (b"X-Forwarded-Proto: http",),
        (b"X-Original-URL: //evil.example",),
        (b"X-Rewrite-URL: //evil.example",),
        (b"Referer: https://evil.example/",),
        (b"Origin: https://evil.example",),
        (b"Cookie: __Host-hv=evil.example; Location=evil.example",),
        (b"Accept-Language: evil.example",),
        (b"From: evil.example",),
    ],
    ids=lambda headers: headers[0].split(b":")[0].decode(),
)
async def test_no_header_gets_into_the_answer(front: Front, headers: tuple[bytes, ...]) -> None:
    reply = await front.ask(b"/" + TOKEN.encode(), *headers)
    assert reply.status in {302, 400}
    assert reply.headers.get("location", TARGET) == TARGET
    assert "evil" not in repr(reply)


async def test_both_kinds_of_connections_get_the_same_answer(front: Front) -> None:
    """One that stays open is answered in bytes made beforehand, others the usual way."""
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
    request = b"GET /%b HTTP/1.1\r\nHost: go.shop.example\r\nUser-Agent: %b\r\n" % (TOKEN.encode(), PERSON.encode())
    found = []
    for line in (b"", b"", b"Connection: close\r\n"):
        writer.write(request + line + b"\r\n")
        found.append(read_reply(await reader.readuntil(b"\r\n\r\n")))
    assert await reader.read() == b""
    writer.close()
    names = {"cache-control", "referrer-policy", "x-robots-tag", "content-length", "date", "location", "set-cookie"}
    for reply in found:
        assert (reply.status, reply.headers["location"], reply.headers["content-length"]) == (302, TARGET, "0")
        assert names <= reply.headers.keys()
    assert found[0].headers.keys() == names
    assert found[2].headers["connection"] == "close"


@pytest.mark.parametrize(("unread", "is_ready"), [(0, True), (65_536, True), (65_537, False)])
def test_who_asks_and_does_not_read_has_to_wait(unread: int, is_ready: bool) -> None:
    """Bytes that are written past the server are not held back by it: they would pile up."""
    transport = Mock(get_write_buffer_size=lambda: unread)
    assert may_be_ready(make_mocked_request("GET", f"/{TOKEN}", transport=transport)) is is_ready


async def test_the_last_answer_of_a_process_says_so(front: Front) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
    front.is_stopping.set()
    writer.write(b"GET /%b HTTP/1.1\r\nHost: go.shop.example\r\n\r\n" % TOKEN.encode())
    async with asyncio.timeout(10):
        reply = read_reply(await reader.read())
    writer.close()
    assert (reply.status, reply.headers["connection"], reply.headers["location"]) == (302, "close", TARGET)


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"PROPFIND"])
async def test_links_are_only_followed(front: Front, method: bytes) -> None:
    reply = await front.ask(b"/" + TOKEN.encode(), method=method)
    assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")
    assert front.clicks == []


async def test_odd_headers_are_judged_and_kept_as_text(front: Front) -> None:
    path = b"/" + SHORT.encode()
    assert (await front.ask(path, agent=b"Mozilla/5.0 \xff\xfe Chrome/137")).status == 302
    kept = front.clicks[-1].user_agent
    assert kept is not None
    assert kept.encode().decode() == kept
    assert kept.startswith("Mozilla/5.0 ")
    assert (await front.ask(path, agent=PERSON.encode() + b" " + b"x" * 4000)).status == 302
    assert len(front.clicks[-1].user_agent or "") == 512
    assert (await front.ask(path, b"X-Purpose: " + b"x" * 4000)).status == 302
    assert front.clicks[-1].kind == "person"
    # Of what comes twice, both count.
    assert (await front.ask(path, b"Sec-Fetch-Dest: document", b"Sec-Fetch-Dest: image")).status in {302, 400}
    assert (await front.ask(path, b"Purpose: x", b"Purpose: prefetch")).status == 503
    assert front.clicks[-1].kind == "prefetch"


async def test_a_fault_of_ours_is_no_redirect(front: Front, capsys: pytest.CaptureFixture[str]) -> None:
    front.links[digest(TOKEN)] = cast("Link", None.__class__)
    reply = await front.ask(b"/" + TOKEN.encode())
    assert (reply.status, "location" in reply.headers) == (500, False)


# Rules in small -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("https://a.example/", "https://a.example/#_hk=K"),
        ("https://a.example/?q", "https://a.example/?q#_hk=K"),
        ("https://a.example/#top", "https://a.example/#top&_hk=K"),
        ("https://a.example/#", "https://a.example/#&_hk=K"),
    ],
)
def test_a_key_stands_in_the_fragment(target: str, expected: str) -> None:
    assert with_key(target, "K") == expected


def test_no_path_of_the_api_is_a_token() -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/collect", "/t.js", "/v1/numbers", "/webhooks/meta"):
        assert token_of(path) is None


def test_misses_are_counted_by_the_minute_and_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(link_misses, "monotonic", lambda: clock[0])
    misses = Misses()
    for _ in range(MISSES_PER_MINUTE):
        assert misses.wait_of("a") == 0
        misses.add("a")
    assert (misses.wait_of("a"), misses.wait_of("b")) == (60, 0)
    clock[0] += 59.9
    assert misses.wait_of("a") == 1
    clock[0] += 0.1
    assert misses.wait_of("a") == 0
    monkeypatch.setattr(link_misses, "_NETWORKS", 100)
    for n in range(1000):
        clock[0] += 0.01
        misses.add(f"n{n}")
        assert len(misses._counts) <= 100
    assert "n999" in misses._counts


def test_tokens_are_found_as_they_are_made() -> None:
    for is_personal in (True, False):
        for _ in range(50):
            token = new_token(is_personal=is_personal)
            assert token_of(f"/{token}") == token_of(f"/{token}?x") == token
