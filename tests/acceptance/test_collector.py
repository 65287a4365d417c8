"""The collector: who may report, what is stored of it, which cookies are set, and what is refused."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from hub.domain.link_tokens import new_secret
from hub.http import collector
from hub.http.collector_schemas import MOST_EVENTS
from tests.support.database import Server
from tests.support.web import SITE, WEB, WWW, Browser, page
from tests.support.wire import ask, connected
from tests.support.world import World, world

pytestmark = pytest.mark.asyncio(loop_scope="module")

SETTINGS = WEB | {"site_domains": (SITE, "other.example")}
LASTING = "Max-Age=34560000; Path=/; Secure; HttpOnly; SameSite=Lax"


@dataclass
class Place:
    """A hub that tracks `shop.example`, and its database."""

    world: World
    database_url: str

    def browser(self, **more: Any) -> Browser:
        return Browser(self.world, **more)

    async def rows(self, sql: str, *args: Any) -> list[dict[str, Any]]:
        async with connected(self.database_url) as conn:
            return [dict(row) for row in await conn.fetch(sql, *args)]

    async def seen(self, session: str) -> list[dict[str, Any]]:
        """What is stored of a session."""
        return await self.rows("select * from web_event where session = $1 order by id", session)

    async def value(self, sql: str, *args: Any) -> Any:
        return await ask(self.database_url, sql, *args)

    async def count(self, table: str) -> int:
        return int(await self.value(f"select count(*) from {table}"))


@asynccontextmanager
async def opened(server: Server, folder: Path, **settings: Any) -> AsyncIterator[Place]:
    async with server.fresh() as url, world(url, folder, **settings) as made:
        yield Place(made, url)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(server: Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    """One hub for most of these, each with browsers of its own."""
    async with opened(server, tmp_path_factory.mktemp("hub"), **SETTINGS) as made:
        yield made


# Who may report -----------------------------------------------------------------------------------------------------


async def test_only_pages_of_the_tracked_sites_may_report(place: Place) -> None:
    for origin, may in {
        WWW: True,
        f"https://{SITE}": True,
        "https://a.b.shop.example:8443": True,
        "http://www.shop.example": False,
        "https://myshop.example": False,
        "https://evil.test": False,
        "null": False,
        "": False,
    }.items():
        browser = place.browser(origin=origin)
        for answer in (
            await browser.collect(page()),
            await browser.request("OPTIONS", "/collect", {"Origin": origin, "Access-Control-Request-Method": "POST"}),
            await browser.report(b"nonsense"),
        ):
            assert "Origin" in answer.headers["vary"], origin
            if may:
                assert answer.headers["access-control-allow-origin"] == origin
                assert answer.headers["access-control-allow-credentials"] == "true"
            else:
                assert answer.status == 403, origin
                assert answer.json["code"] == "origin_not_allowed"
                assert not any(name.startswith("access-control") for name in answer.headers)
        assert len(await place.seen(browser.session)) == may
    nowhere = await place.browser().request("POST", "/collect", {}, b"{}")
    assert (nowhere.status, nowhere.json["code"]) == (403, "origin_not_allowed")


async def test_a_preflight_is_answered(place: Place) -> None:
    answer = await place.browser().request("OPTIONS", "/collect", {"Origin": WWW})
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["access-control-allow-methods"] == "POST"
    assert answer.headers["access-control-allow-headers"] == "Content-Type"
    assert not answer.cookies


async def test_a_hub_that_tracks_nothing_takes_no_reports(server: Server, tmp_path: Path) -> None:
    async with opened(server, tmp_path) as bare:
        assert (await bare.browser().collect(page())).status == 403


# Visitors -----------------------------------------------------------------------------------------------------------


async def test_a_first_visit_makes_a_visitor_who_counts_once_its_cookie_has_come_back(place: Place) -> None:
    browser = place.browser()
    first = await browser.load("/?a=1", title="Shoes", referrer="https://search.test/?q=1#x")
    secret = browser.jar["__Host-hv"].value
    assert (first.status, first.body) == (204, b"")
    assert first.cookies == (f"__Host-hv={secret}; {LASTING}",)
    assert first.headers["cache-control"] == "no-store"
    assert not await place.value("select is_confirmed from visitor where id = $1", browser.visitor)
    again = await browser.collect({"type": "engaged", "url": f"{WWW}/?a=1", "age": 0})
    assert (again.status, again.cookies) == (204, ())
    assert await place.value("select is_confirmed from visitor where id = $1", browser.visitor)
    viewed, engaged = await place.seen(browser.session)
    assert (viewed["type"], viewed["url"], viewed["title"]) == ("page", f"{WWW}/?a=1", "Shoes")
    assert (viewed["referrer"], viewed["site"], viewed["visitor_id"]) == (
        "https://search.test/?q=1",
        SITE,
        browser.visitor,
    )
    assert (engaged["type"], engaged["visitor_id"]) == ("engaged", browser.visitor)
    assert secret not in await place.value("select string_agg(v::text, ' ') from visitor v")
    assert secret not in await place.value("select string_agg(w::text, ' ') from web_event w")


async def test_a_cookie_that_is_none_of_ours_is_replaced(place: Place) -> None:
    for cookie in ("__Host-hv=short", "__Host-hv=", "__host-hv=" + "a" * 22, "x=1; =; ;;; __Host-hv"):
        answer = await place.browser().collect(page(), Cookie=cookie)
        assert len(answer.cookies) == 1, cookie
    odd = await place.browser().collect(page(), Cookie=f'a="b; c{{}}=\xe4; __Host-hv={"a" * 22}; d')
    assert (odd.status, odd.cookies) == (204, ())


async def test_no_visitor_is_taken_from_a_url_or_a_body(place: Place) -> None:
    mine = "a" * 22
    browser = place.browser()
    answer = await browser.request(
        "POST",
        f"/collect?__Host-hv={mine}&visitor={mine}",
        {"Origin": WWW},
        json.dumps({"session": browser.session, "consent": "granted", "events": [page()]}).encode(),
    )
    assert mine not in answer.cookies[0]
    body = {"session": browser.session, "consent": "granted", "events": [page()], "visitor": mine}
    assert (await browser.report(json.dumps(body).encode())).status == 422


async def test_the_cookie_of_a_collector_elsewhere_is_partitioned(place: Place) -> None:
    near, far = place.browser(), place.browser(origin="https://www.other.example")
    assert (await near.load()).cookies[0].endswith(LASTING)
    assert (await far.load()).cookies[0].endswith("Path=/; Secure; HttpOnly; SameSite=None; Partitioned")


async def test_reset_makes_another_visitor_of_what_follows(place: Place) -> None:
    browser = place.browser()
    before = browser.become()
    browser.give_receipt("r" * 22)
    (receipt,) = browser.receipts
    answer = await browser.collect(page(), {"type": "reset", "age": 0}, page(kind="route"))
    after = browser.visitor
    assert after not in {before, None}
    assert answer.cookies == (
        f"{receipt}=; Max-Age=0; Path=/collect; Secure; HttpOnly; SameSite=Lax",
        f"__Host-hv={browser.jar['__Host-hv'].value}; {LASTING}",
    )
    assert not browser.receipts
    assert [row["visitor_id"] for row in await place.seen(browser.session)] == [before, after]
    await browser.load("/later")
    assert [row["visitor_id"] for row in await place.seen(browser.session)][-1] == after


# Consent ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "tracked"),
    [
        ("required", {"granted"}),
        ("implied", {"granted", "unset"}),
        ("off", {"granted", "unset"}),
    ],
)
async def test_without_consent_a_session_is_all_there_is(
    server: Server, tmp_path: Path, mode: str, tracked: set[str]
) -> None:
    async with opened(server, tmp_path, **WEB | {"tracking_consent": mode}) as place:
        for consent, has_gpc in product(("granted", "unset", "denied"), (False, True)):
            is_tracked = consent in tracked and not has_gpc
            for cookies in ({}, {"Cookie": f"__Host-hv={'a' * 22}; __Secure-hc-1={'b' * 22}"}):
                browser = place.browser(consent=consent, has_gpc=has_gpc)
                answer = await browser.collect(page(), key=new_secret(), **cookies)
                (row,) = await place.seen(browser.session)
                assert answer.status == 204
                assert (row["visitor_id"] is not None) == is_tracked, (consent, has_gpc)
                assert len(answer.cookies) == (is_tracked and not cookies), (consent, has_gpc)
                shown = "select count(*) from page_receipt where session = $1"
                assert bool(await place.value(shown, browser.session)) == is_tracked, (consent, has_gpc)
        assert await place.count("used_token") == 2 * len(tracked)


async def test_without_consent_nobody_gets_a_handle_or_is_declared(place: Place) -> None:
    browser, before = place.browser(consent="denied"), await place.count("contact")
    asked = await browser.collect({"type": "handle", "age": 0})
    assert (asked.status, asked.json, asked.cookies) == (200, {"handle": None}, ())
    said = await browser.identify(email="mia@example.com")
    assert (said.status, said.body) == (204, b"")
    assert (await browser.identify(phone="nonsense")).status == 422
    assert await place.count("contact") == before


# What is not stored -------------------------------------------------------------------------------------------------


async def test_what_is_fetched_in_advance_is_dropped(place: Place) -> None:
    before = await place.count("visitor")
    for name, value in {"Sec-Purpose": "prefetch;prerender", "Purpose": "prefetch", "X-Moz": "prefetch"}.items():
        browser = place.browser()
        answer = await browser.collect(page(), **{name: value})
        assert (answer.status, answer.cookies) == (204, ()), name
        assert answer.headers["access-control-allow-origin"] == WWW
        assert await place.seen(browser.session) == []
    assert await place.count("visitor") == before


async def test_pages_are_kept_without_keys_on_the_site_alone_and_when_they_were(place: Place) -> None:
    browser = place.browser()
    events = [
        page(f"{WWW}/1#_hk={'k' * 22}", age=60_000),
        page(f"{WWW}/2#part&_hk={'k' * 22}", kind="restore", age=86_400_000 * 30),
        page("https://evil.test/3"),
        page("https://user:secret@www.shop.example/4" + "x" * 3000, title="half \ud83d\x00" + "y" * 500),
        {"type": "engaged", "url": "about:srcdoc", "age": 0},
    ]
    assert (await browser.collect(*events)).status == 204
    first, second, long = await place.seen(browser.session)
    now = datetime.now(UTC)
    assert (first["url"], second["url"]) == (f"{WWW}/1", f"{WWW}/2#part")
    assert 60 <= (now - first["at"]).total_seconds() < 120
    assert (first["received_at"] - first["at"]).total_seconds() == 60
    assert (second["received_at"] - second["at"]).total_seconds() == 86_400
    assert len(long["url"]) == 2048
    assert "secret" not in long["url"]
    assert long["title"] == "half " + "y" * 295


BAD: dict[str, tuple[Any, int, str]] = {
    "no_json": (b"{", 400, "bad_request"),
    "no_utf8": (b"\xff", 400, "bad_request"),
    "empty": (b"", 400, "bad_request"),
    "deep": (b"[" * 60_000, 400, "bad_request"),
    "less_deep": (b"[" * 900 + b"]" * 900, 400, "bad_request"),
    "a_number_too_long": (b'{"session": ' + b"9" * 5000 + b"}", 400, "bad_request"),
    "no_number": (b'{"events": [{"type": "reset", "age": NaN}]}', 422, "invalid_request"),
    "half_a_name": (b'{"\\ud800": 1}', 422, "invalid_request"),
    "a_list": (b"[]", 422, "invalid_request"),
    "no_fields": ({}, 422, "invalid_request"),
    "a_short_session": ({"session": "x"}, 422, "invalid_request"),
    "a_session_with_a_newline": ({"session": "a" * 22 + "\n"}, 422, "invalid_request"),
    "an_unknown_field": ({"visitor": "x"}, 422, "invalid_request"),
    "an_odd_consent": ({"consent": True}, 422, "invalid_request"),
    "an_odd_key": ({"key": "?\x00"}, 204, ""),
    "a_key_that_is_no_text": ({"key": 1}, 422, "invalid_request"),
    "no_events": ({"events": []}, 422, "invalid_request"),
    "too_many_events": ({"events": [page()] * (MOST_EVENTS + 1)}, 422, "invalid_request"),
    "as_many_as_may_be": ({"events": [page()] * MOST_EVENTS}, 204, ""),
    "an_unknown_event": ({"events": [{"type": "purchase", "age": 0}]}, 422, "invalid_request"),
    "an_unknown_kind": ({"events": [page(kind="frame")]}, 422, "invalid_request"),
    "no_age": ({"events": [{"type": "reset"}]}, 422, "invalid_request"),
    "a_negative_age": ({"events": [page(age=-1)]}, 422, "invalid_request"),
    "a_broken_age": ({"events": [{**page(), "age": 0.5}]}, 422, "invalid_request"),
    "a_true_age": ({"events": [{**page(), "age": True}]}, 422, "invalid_request"),
    "a_huge_age": ({"events": [page(age=10**30)]}, 204, ""),
    "a_null_url": ({"events": [{**page(), "url": None}]}, 422, "invalid_request"),
    "a_handle_before_the_end": ({"events": [{"type": "handle", "age": 0}, page()]}, 422, "invalid_request"),
    "a_part_of_a_signature": (
        {"events": [{"type": "identify", "age": 0, "email": "a@b.cd", "nonce": "n" * 8}]}, 422, "invalid_request",
    ),
    "an_identify_of_nothing": ({"events": [{"type": "identify", "age": 0}]}, 422, "invalid_request"),
    "nothing_but_surrogates": ({"events": [page(title="\ud800")]}, 204, ""),
}  # fmt: skip


async def test_bad_bodies_are_told_with_every_fault_and_change_nothing(place: Place) -> None:
    before = await place.count("contact")
    for name, (body, status, code) in BAD.items():
        browser = place.browser()
        good = {"session": browser.session, "consent": "granted", "events": [page()]}
        raw = body if isinstance(body, bytes) else json.dumps({**good, **body} if body else {}).encode()
        answer = await browser.report(raw)
        assert (answer.status, name) == (status, name), answer.body
        assert answer.headers["access-control-allow-origin"] == WWW
        if code:
            assert answer.json["code"] == code, name
    faults = (await place.browser().report(b'{"session": 1, "events": [{"type": "page"}], "x": 2}')).json["errors"]
    assert {fault["pointer"] for fault in faults} >= {"/session", "/consent", "/x", "/events/0/page/age"}
    assert await place.count("contact") == before


async def test_a_body_is_at_most_64_kb(place: Place) -> None:
    browser = place.browser()

    def batch(size: int) -> bytes:
        made = json.dumps({"session": browser.session, "consent": "granted", "events": [page(title="")]}).encode()
        return made.replace(b'"title": ""', b'"title": "' + b"x" * (size - len(made)) + b'"')

    assert len(batch(65_536)) == 65_536
    assert (await browser.report(batch(65_536))).status == 204
    answer = await browser.report(batch(65_537))
    assert (answer.status, answer.json["code"]) == (413, "too_large")
    assert answer.headers["access-control-allow-origin"] == WWW


async def test_h4_more_than_ten_a_second_are_put_off(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "monotonic", lambda: 1000.0)
    browser, other = (place.browser(is_patient=False) for _ in range(2))
    nobody = place.browser(is_patient=False, consent="denied")
    browser.become()
    assert [(await browser.load()).status for _ in range(10)] == [204] * 10
    browser.restart()
    answer = await browser.load()
    assert (answer.status, answer.json["code"], answer.headers["retry-after"]) == (429, "too_many_reports", "1")
    assert answer.headers["access-control-allow-origin"] == WWW
    assert (await other.load()).status == 204
    assert [(await nobody.load()).status for _ in range(11)] == [204] * 10 + [429]
    monkeypatch.setattr(collector, "monotonic", lambda: 1000.2)
    assert [(await browser.load()).status for _ in range(3)] == [204, 204, 429]


async def test_while_the_database_is_away_trackers_try_again(server: Server, tmp_path: Path) -> None:
    async with opened(server, tmp_path, **WEB) as place:
        browser, name = place.browser(), urlsplit(place.database_url).path[1:]
        await server.execute(
            f"alter database {name} with allow_connections false",
            f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'",
        )
        answer = await browser.load()
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert answer.headers["access-control-allow-origin"] == WWW
        await server.execute(f"alter database {name} with allow_connections true")
        assert (await browser.load()).status == 204


async def test_a_handle_comes_last_and_tells_nothing(place: Place) -> None:
    browser = place.browser()
    answer = await browser.collect(page(), {"type": "handle", "age": 0})
    assert (answer.status, list(answer.json), len(answer.cookies)) == (200, ["handle"], 1)
    assert browser.visitor
    assert browser.visitor.hex not in answer.body.decode()
    assert await browser.handle() != answer.json["handle"]
