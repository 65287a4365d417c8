"""Tracked links followed over HTTP: who is told apart, what is stored, what browsers get, and what holds without a
database (rule F; K1 and K4 for what a click is).
"""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import pytest
from multidict import CIMultiDict

from hub.domain.ids import new_id
from hub.domain.link_tokens import digest, new_token, visitor_id
from hub.http.link_misses import MISSES_PER_MINUTE
from hub.store.clicks import Click, ClickSpool
from providers.simulator import Person
from tests.support.cut import Line, line_to
from tests.support.serving import HubProcess, serving
from tests.support.web import GO, PHONE_AGENT, WEB, WWW, Browser, Reply, plant_contact, who
from tests.support.wire import ask, connected, reopened, until
from tests.support.world import Open, World, world

TARGET = f"{WWW}/sale?a=1"
HIDDEN = {"cache-control": "no-store", "referrer-policy": "no-referrer", "x-robots-tag": "noindex"}
CHROME = (
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/137.0.0.0 Mobile Safari/537.36"
)
IN_WHATSAPP = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148 WAiOS/2.25"
NOTE = """
create table told (link_id uuid);
create function note() returns trigger language plpgsql as $$
begin insert into told values (new.link_id); return null; end $$;
create trigger noted after insert on click_untold for each row execute function note()"""


@pytest.fixture(autouse=True)
async def _notes(database_url: str) -> None:
    """Services are told of clicks as soon as there are any: `told` keeps which."""
    async with connected(database_url) as conn:
        await conn.execute(NOTE)


@dataclass(frozen=True)
class Planted:
    """A tracked link in the database."""

    id: UUID
    token: str


async def plant(
    database_url: str, *, is_personal: bool = False, ago: timedelta = timedelta(hours=1), **more: Any
) -> Planted:
    """A link that no message was sent with, unless told otherwise."""
    link = Planted(new_id(), new_token(is_personal=is_personal))
    contact = await plant_contact(database_url) if is_personal and "contact_id" not in more else None
    row = {
        "id": link.id, "token_hash": digest(link.token), "target": TARGET, "contact_id": contact,
        "created_at": datetime.now(UTC) - ago, **more,
    }  # fmt: skip
    places = ", ".join(f"${n}" for n in range(1, len(row) + 1))
    await ask(database_url, f"insert into tracked_link ({', '.join(row)}) values ({places})", *row.values())
    return link


async def stored(database_url: str, link: Planted) -> list[dict[str, Any]]:
    """The clicks on a link, the oldest first, with what stands beside them."""
    sql = """
    select c.*, (select prefix::text from click_origin o where o.click_id = c.id) as prefix,
           exists (select from visitor v where v.id = c.visitor_id) as has_visitor
    from click c where link_id = $1 order by at, id"""
    async with connected(database_url) as conn:
        return [dict(row) for row in await conn.fetch(sql, link.id)]


async def count(database_url: str, table: str, link: Planted) -> int:
    """Rows of this link."""
    return int(await ask(database_url, f"select count(*) from {table} where link_id = $1", link.id))


async def is_suspect(database_url: str, link: Planted) -> bool:
    return bool(await ask(database_url, "select suspect_at is not null from tracked_link where id = $1", link.id))


def attributes(cookie: str) -> tuple[str, str, set[str]]:
    """Name, value and the rest of a `Set-Cookie` line."""
    first, *rest = cookie.split("; ")
    name, _, value = first.partition("=")
    return name, value, set(rest)


async def asked(browser: Browser, method: str, path: str, **headers: str) -> Reply:
    """A request as somebody who is no browser makes it: nothing goes along but this."""
    return await browser.request(method, path, headers)


# Who it was ---------------------------------------------------------------------------------------------------------

PEOPLE = {"safari": PHONE_AGENT, "chrome": CHROME, "in whatsapp": IN_WHATSAPP}
OTHERS: dict[str, tuple[str, dict[str, str], str, str]] = {
    "head": ("HEAD", {"User-Agent": CHROME}, "head", "method_head"),
    "no agent": ("GET", {"User-Agent": ""}, "no_agent", "agent_missing"),
    "whatsapp": ("GET", {"User-Agent": "WhatsApp/2.25.1 A"}, "preview", "preview_whatsapp"),
    "telegram": ("GET", {"User-Agent": "TelegramBot (like TwitterBot)"}, "preview", "preview_telegram"),
    "imessage": (
        "GET",
        {"User-Agent": "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_11) facebookexternalhit/1.1 Facebot Twitterbot/1.0"},
        "preview", "preview_imessage",
    ),
    "crawler": ("GET", {"User-Agent": "Mozilla/5.0 (compatible; Googlebot/2.1)"}, "crawler", "agent_listed"),
    "curl": ("GET", {"User-Agent": "curl/8.5.0"}, "crawler", "agent_listed"),
    "image": ("GET", {"User-Agent": CHROME, "Sec-Fetch-Dest": "image"}, "subresource", "fetch_metadata"),
}  # fmt: skip
FOREIGN = {"telegram", "whatsapp"}
"""Not what an SMS is previewed by."""
AHEAD = {
    "sec-purpose": {"Sec-Purpose": "prefetch;prerender"}, "purpose": {"Purpose": "prefetch"},
    "moz": {"X-Moz": "prefetch"}, "preview": {"X-Purpose": ": preview"},
}  # fmt: skip


async def test_k1_everybody_is_redirected_and_stored_and_only_people_count(open_world: Open, database_url: str) -> None:
    made = await open_world(**WEB)
    for name, agent in PEOPLE.items():
        link = await plant(database_url, is_personal=True, medium="sms")
        browser = Browser(made, agent=agent)
        reply = await browser.click(link.token)
        assert (reply.status, reply.location) == (302, TARGET), name
        (click,) = await stored(database_url, link)
        assert (click["kind"], click["reason"], click["counts"], click["opted_out"]) == (
            "person",
            "person",
            True,
            False,
        )
        assert (click["user_agent"], click["site"], click["prefix"]) == (agent, "shop.example", "127.0.0.0/24")
        assert click["visitor_id"] == browser.visitor
        assert click["has_visitor"]
        assert click["receipt_hash"] == digest(browser.jar[browser.receipts[0]].value)
        assert click["key_hash"] is None
        assert await count(database_url, "told", link) == 1
        assert not await is_suspect(database_url, link)
    for name, (method, headers, kind, reason) in OTHERS.items():
        link = await plant(database_url, is_personal=True, medium="sms")
        reply = await asked(Browser(made), method, f"/{link.token}", **headers)
        assert (reply.status, reply.location, reply.cookies, reply.body) == (302, TARGET, (), b""), name
        (click,) = await stored(database_url, link)
        assert (click["kind"], click["reason"], click["counts"]) == (kind, reason, False), name
        assert (click["visitor_id"], click["receipt_hash"], click["key_hash"]) == (None, None, None)
        assert click["prefix"] == "127.0.0.0/24"
        assert await count(database_url, "told", link) == 0
        assert await is_suspect(database_url, link) is (name in FOREIGN), name  # K4: pasted into another app


async def test_k1_a_prefetch_is_never_a_redirect(open_world: Open, database_url: str) -> None:
    """Else the browser would use it for the real click, which would never arrive."""
    made = await open_world(**WEB)
    link = await plant(database_url)
    for headers in AHEAD.values():
        for method in ("GET", "HEAD"):
            reply = await asked(Browser(made), method, f"/{link.token}", **headers)
            assert (reply.status, reply.cookies, reply.headers["cache-control"]) == (503, (), "no-store")
            assert "location" not in reply.headers
    clicks = await stored(database_url, link)
    assert [(click["kind"], click["counts"]) for click in clicks] == [("prefetch", False)] * 2 * len(AHEAD)
    assert (await Browser(made).click(link.token)).status == 302


async def test_k1_nobody_has_a_message_before_its_provider(open_world: Open, database_url: str) -> None:
    """A click is early until the provider has taken the message; that it has is noticed without any notice of it."""
    made = await open_world(**WEB)
    (service,) = await made.connected("helpdesk")
    await made.customer(Person("+4915112345678", name="Mia")).says("hi")
    (received,) = await service.endpoint.hears("message.received")
    link = await plant(database_url, is_personal=True, medium="whatsapp", message_id=new_id())
    early = await Browser(made).click(link.token)
    assert (early.status, early.cookies) == (302, ())
    sent = await service.reply(received.data["conversation"]["id"], "look", query="?wait=10")
    message = UUID(sent.json["message"]["id"].partition("_")[2])

    async def is_accepted() -> bool:
        sql = "select count(*) from message_status where message_id = $1 and status in ('sent', 'delivered')"
        return bool(await ask(database_url, sql, message))

    await until(is_accepted)
    await ask(database_url, "update tracked_link set message_id = $1 where id = $2", message, link.id)
    assert (await Browser(made).click(link.token)).cookies
    clicks = await stored(database_url, link)
    assert [click["reason"] for click in clicks] == ["before_acceptance", "person"]


# What a browser gets ------------------------------------------------------------------------------------------------


async def test_the_redirect_and_its_cookies_to_the_letter(open_world: Open, database_url: str) -> None:
    made = await open_world(**WEB)
    link = await plant(database_url)
    browser = Browser(made)
    first = await browser.click(link.token)
    assert {name: first.headers[name] for name in HIDDEN} == HIDDEN
    assert first.headers["content-length"] == "0"
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", first.headers["date"])
    visitor, receipt = map(attributes, first.cookies)
    rest = {"Secure", "HttpOnly", "SameSite=Lax"}
    assert (visitor[0], visitor[2]) == ("__Host-hv", rest | {"Path=/", "Max-Age=34560000"})
    assert receipt[0].startswith("__Secure-hc-")
    assert receipt[2] == rest | {"Path=/collect", "Max-Age=1800"}
    for secret in (visitor[1], receipt[1]):
        assert re.fullmatch(r"[A-Za-z0-9_-]{22}", secret)
    second = await browser.click(link.token)
    assert attributes(second.cookies[0]) == visitor  # it lasts longer, and is the same
    assert attributes(second.cookies[1])[:2] != receipt[:2]
    names = {attributes((await browser.click(link.token)).cookies[1])[0] for _ in range(70)}
    assert 20 <= len(names) <= 62
    assert len({click["visitor_id"] for click in await stored(database_url, link)}) == 1


async def test_only_a_cookie_of_ours_is_a_visitor(open_world: Open, database_url: str) -> None:
    made = await open_world(**WEB)
    link = await plant(database_url)
    right = "A" * 22
    for sent, is_known in {
        f"__Host-hv={right}": True, f"a=b; __Host-hv={right}; c=d": True, f'x="__Host-hv={right}': False,
        f"__Host-hv={right}A": False, "__Host-hv=": False, "__Host-hv=../../../etc/passwd;": False,
        f"__host-hv={right}": False, f"hv={right}": False,
    }.items():  # fmt: skip
        reply = await Browser(made).click(link.token, Cookie=sent)
        value = attributes(reply.cookies[0])[1]
        assert (value == right) is is_known, sent
        click = (await stored(database_url, link))[-1]
        assert click["visitor_id"] == visitor_id(value)
    # Some proxies pass each cookie on in a header of its own.
    headers = CIMultiDict(
        [("Host", GO), ("User-Agent", PHONE_AGENT), ("Cookie", "a=b"), ("Cookie", f"__Host-hv={right}")]
    )
    async with made.session.get(f"{made.hub.url}/{link.token}", headers=headers, allow_redirects=False) as answer:
        assert attributes(answer.headers["Set-Cookie"])[1] == right
    # Neither is one in the URL.
    value = attributes((await Browser(made).click(f"{link.token}?__Host-hv={right}")).cookies[0])[1]
    assert value != right


FOREIGN_TARGET = "https://www.other.example/sale"


@pytest.mark.parametrize("mode", ["required", "implied", "off"])
async def test_consent_gates_cookies_and_keys(mode: str, database_url: str, tmp_path: Path) -> None:
    """GPC refuses in every mode. Where consent is asked for, only a link to somebody who gave it, while it says who
    clicked, may know a browser again.
    """
    settings = {**WEB, "tracking_consent": mode, "site_domains": ("shop.example", "other.example")}
    links = {
        "personal": await plant(database_url, is_personal=True),
        "anonymous": await plant(database_url),
        "day 31": await plant(database_url, is_personal=True, ago=timedelta(days=31)),
    }
    foreign = {
        "personal": await plant(database_url, is_personal=True, target=FOREIGN_TARGET),
        "fragment": await plant(database_url, is_personal=True, target=f"{FOREIGN_TARGET}#top"),
        "anonymous": await plant(database_url, target=FOREIGN_TARGET),
    }
    elsewhere = await plant(database_url, is_personal=True, target="https://nobody.example/")
    async with world(database_url, tmp_path, **settings) as made:
        for name, link in links.items():
            reply = await Browser(made).click(link.token)
            may = mode != "required" or name == "personal"
            assert [attributes(line)[0][:12] for line in reply.cookies] == ["__Host-hv", "__Secure-hc-"] * may, name
            assert reply.location == TARGET
            refused = await Browser(made, has_gpc=True).click(link.token)
            assert (refused.cookies, refused.location) == ((), TARGET)
            told, private = await stored(database_url, link)
            assert (told["counts"], private["counts"], private["opted_out"]) == (True, True, True)
            assert (told["visitor_id"] is not None, told["receipt_hash"] is not None) == (may, may)
            assert (private["visitor_id"], private["receipt_hash"], private["key_hash"]) == (None, None, None)
        for name, link in foreign.items():
            reply = await Browser(made).click(link.token)
            refused = await Browser(made, has_gpc=True).click(link.token)
            assert reply.cookies == refused.cookies == ()
            assert "_hk" not in refused.location
            told, private = await stored(database_url, link)
            if mode == "required" and name == "anonymous":
                assert (reply.location, told["key_hash"]) == (FOREIGN_TARGET, None)
                continue
            before, _, key = reply.location.partition("_hk=")
            assert before == f"{FOREIGN_TARGET}#top&" if name == "fragment" else f"{FOREIGN_TARGET}#"
            assert (told["key_hash"], told["visitor_id"], told["receipt_hash"]) == (digest(key), None, None)
            assert private["key_hash"] is None
        # A site that nobody tracks: there is nothing to land on, but a browser's second click is known as one.
        reply = await Browser(made).click(elsewhere.token)
        assert [attributes(line)[0] for line in reply.cookies] == ["__Host-hv"]
        assert (await stored(database_url, elsewhere))[0]["site"] is None


# What leads nowhere -------------------------------------------------------------------------------------------------


async def test_links_that_are_not_there_any_more_or_never_were(open_world: Open, database_url: str) -> None:
    made = await open_world(**WEB)
    browser = Browser(made)
    link, disabled = await plant(database_url), await plant(database_url, disabled_at=datetime.now(UTC))
    expired = await plant(database_url, ago=timedelta(days=91))
    old = await plant(database_url, ago=timedelta(days=89))
    unsafe = await plant(database_url, target="https://x.example/\r\nSet-Cookie: a=b")
    script = await plant(database_url, target="javascript:alert(1)//https://x.example")
    assert (await browser.click(old.token)).status == 302
    for gone in (expired, disabled):
        for method in ("GET", "HEAD"):
            reply = await asked(browser, method, f"/{gone.token}")
            assert (reply.status, reply.cookies) == (410, ())
            assert {name: reply.headers[name] for name in HIDDEN} == HIDDEN
        assert await stored(database_url, gone) == []
    for token in (new_token(is_personal=True), new_token(is_personal=False), unsafe.token, script.token):
        reply = await browser.click(token)
        assert (reply.status, reply.cookies, reply.headers["x-robots-tag"]) == (404, (), "noindex")
        assert reply.headers["content-type"].startswith("text/plain")
        assert "location" not in reply.headers
        assert "set-cookie" not in reply.headers
    reply = await asked(browser, "POST", f"/{link.token}")
    assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")
    assert await stored(database_url, link) == []


async def test_a_change_of_a_link_is_noticed(open_world: Open, database_url: str) -> None:
    made = await open_world(**WEB)
    browser = Browser(made)
    link, other = await plant(database_url), await plant(database_url)
    for known in (link, other):
        assert (await browser.click(known.token)).location == TARGET
    await ask(database_url, "update tracked_link set target = $1 where id = $2", f"{WWW}/new", link.id)
    await ask(database_url, "update tracked_link set disabled_at = now() where id = $1", other.id)

    async def are_new() -> bool:
        return (await browser.click(link.token)).location == f"{WWW}/new"

    await until(are_new)
    assert (await browser.click(other.token)).status == 410
    await ask(database_url, "delete from tracked_link where id = $1", link.id)

    async def is_gone() -> bool:
        return (await browser.click(link.token)).status == 404

    await until(is_gone)


async def test_h4_whoever_guesses_is_slowed_down_with_their_network(open_world: Open, database_url: str) -> None:
    """Links that are known go on; so does everybody else."""
    made = await open_world(**WEB, trusted_proxies=("127.0.0.0/8",))
    known, fresh = await plant(database_url), await plant(database_url)
    guesser, other = {"X-Forwarded-For": "9.9.9.9, 198.51.100.7"}, {"X-Forwarded-For": "2001:db8:1:2::3"}
    neighbour = {"X-Forwarded-For": "198.51.100.200, 127.0.0.9"}
    browser = Browser(made)
    assert (await browser.click(known.token, **guesser)).status == 302
    for _ in range(MISSES_PER_MINUTE):
        assert (await browser.click(new_token(is_personal=False), **guesser)).status == 404
    for headers in (guesser, neighbour):
        reply = await browser.click(new_token(is_personal=False), **headers)
        assert reply.status == 429
        assert 1 <= int(reply.headers["retry-after"]) <= 60
    assert (await browser.click(fresh.token, **guesser)).status == 429
    assert (await browser.click(known.token, **guesser)).status == 302
    assert (await browser.click(fresh.token, **other)).status == 302
    assert [click["prefix"] for click in await stored(database_url, known)] == ["198.51.100.0/24"] * 2
    assert [click["prefix"] for click in await stored(database_url, fresh)] == ["2001:db8:1::/48"]


async def test_each_host_serves_what_it_is_there_for(open_world: Open, database_url: str) -> None:
    made = await open_world(**{**WEB, "link_base_url": "https://l.example", "collector_base_url": f"https://{GO}"})
    link = await plant(database_url)
    nothing = (421, 421)
    paths = {  # on the link host, on the collector's
        f"/{link.token}": (302, 421), f"/{link.token}?x=1": (302, 421), "/": nothing, "/healthz": nothing,
        "/readyz": nothing, "/metrics": nothing, "/v1/numbers": nothing, "/v1/admin/services": nothing,
        "/webhooks/meta": nothing, "/webhooks/twilio": nothing, "/robots.txt": nothing, f"//{link.token}": nothing,
        f"/{link.token}/": nothing, f"/x/{link.token}": nothing, f"/{link.token}x": nothing,
    }  # fmt: skip
    for path, expected in paths.items():
        found = [await asked(Browser(made, host=host), "GET", path) for host in ("l.example", GO)]
        assert tuple(reply.status for reply in found) == expected, path
    for host in ("l.example:443", "L.EXAMPLE", "l.example."):
        assert (await asked(Browser(made, host=host), "GET", f"/{link.token}")).status == 302
    for host in ("hub.example.com", "127.0.0.1", "l.example.evil.example", "evil-l.example", "l.example:8080", ""):
        assert (await asked(Browser(made, host=host), "GET", f"/{link.token}")).status == 404, host
        assert (await asked(Browser(made, host=host), "GET", "/healthz")).status == 200, host
    for host in ("l.example", GO, "hub.example.com"):
        for path in ("/t.js", "/collect"):
            assert (await asked(Browser(made, host=host), "GET", path)).status not in {302, 421}, path


async def test_one_host_may_serve_both(open_world: Open, database_url: str) -> None:
    made = await open_world(**{**WEB, "link_base_url": "https://hub.example.com"})
    link = await plant(database_url)
    browser = Browser(made, host="hub.example.com")
    assert (await asked(browser, "GET", f"/{link.token}")).status == 302
    assert (await asked(browser, "POST", f"/{link.token}")).status == 404
    assert (await asked(browser, "GET", "/healthz")).status == 200
    assert (await asked(browser, "GET", "/v1/numbers")).status == 401


# Without the database -----------------------------------------------------------------------------------------------


@dataclass
class Frail:
    """A hub whose line to the database can be cut."""

    world: World
    line: Line
    folder: Path

    def spooled(self) -> int:
        """Bytes that lie in the spool of clicks."""
        return sum(path.stat().st_size for path in (self.folder / "clicks").glob("*.spool"))


@asynccontextmanager
async def frail(database_url: str, folder: Path) -> AsyncIterator[Frail]:
    async with line_to(database_url) as (url, line), world(url, folder, **WEB) as made:
        yield Frail(made, line, folder)
        await line.up()


async def test_f3_known_links_lead_on_without_the_database_and_no_click_is_lost(
    database_url: str, tmp_path: Path
) -> None:
    """Refused, then silent: every answered click is stored once, told once, with all that belongs to it."""
    known, unknown = await plant(database_url, is_personal=True, medium="sms"), await plant(database_url)
    telegram = {"User-Agent": OTHERS["telegram"][1]["User-Agent"]}
    async with frail(database_url, tmp_path) as hub:
        browsers = [Browser(hub.world) for _ in range(8)]
        assert (await browsers[0].click(known.token)).status == 302
        await hub.line.down()
        for _ in range(3):
            replies = await asyncio.gather(*(browser.click(known.token) for browser in browsers))
            assert [(reply.status, reply.location, len(reply.cookies)) for reply in replies] == [(302, TARGET, 2)] * 8
        assert (await asked(browsers[0], "GET", f"/{known.token}", **telegram)).status == 302
        for reply in await asyncio.gather(*(browser.click(unknown.token) for browser in browsers[:2])):
            assert (reply.status, reply.headers["retry-after"]) == (503, "5")
        assert hub.spooled() > 25 * 200
        await hub.line.up()
        await until(lambda: hub.spooled() == 0)
        assert (await browsers[0].click(unknown.token)).status == 302
        hub.line.silent()
        replies = await asyncio.gather(*(browser.click(known.token) for browser in browsers))
        assert [reply.status for reply in replies] == [302] * 8
        assert hub.spooled() > 0
        assert (await browsers[0].click(known.token)).status == 302
        await hub.line.up()
        await until(lambda: hub.spooled() == 0)

    clicks = await stored(database_url, known)
    assert await count(database_url, "told", known) == 34
    assert Counter(click["kind"] for click in clicks) == {"person": 1 + 24 + 8 + 1, "preview": 1}
    assert {click["visitor_id"] for click in clicks if click["counts"]} == {browser.visitor for browser in browsers}
    assert all(click["has_visitor"] for click in clicks if click["counts"])
    assert {click["prefix"] for click in clicks} == {"127.0.0.0/24"}
    receipts = {digest(browser.jar[name].value) for browser in browsers for name in browser.receipts}
    all_clicks = clicks + await stored(database_url, unknown)
    assert receipts <= {click["receipt_hash"] for click in all_clicks}
    assert await is_suspect(database_url, known)
    async with connected(database_url) as conn:
        origins = await conn.fetch("select click_id from click_origin")
    assert len(origins) == len(set(origins)) == len(all_clicks)


async def test_what_was_stored_after_all_is_not_stored_again(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit was slow: the click went to the spool, and is in the database, too. The same file is read twice."""
    link = await plant(database_url)
    async with frail(database_url, tmp_path) as hub:
        monkeypatch.setattr("hub.workers.clicks.PATIENCE", 0.0)
        for _ in range(3):
            assert (await Browser(hub.world).click(link.token)).status == 302
        monkeypatch.undo()
        await until(lambda: hub.spooled() == 0)
        await hub.line.down()
        assert (await Browser(hub.world).click(link.token)).status == 302
        (spool,) = (tmp_path / "clicks").glob("*.spool")
        (tmp_path / "clicks" / "0.spool").write_bytes(spool.read_bytes() * 2)
        await hub.line.up()
        await until(lambda: hub.spooled() == 0)
    clicks = await stored(database_url, link)
    assert len(clicks) == 4
    assert await count(database_url, "told", link) == 4
    assert await ask(database_url, "select count(*) from click_origin") == 4


async def test_who_comes_while_the_database_stands_still_for_a_moment_is_led_on(
    open_world: Open, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nearly every link is followed for the first time, and so is none that the process knows."""
    made = await open_world(**WEB)
    known, unknown = await plant(database_url), await plant(database_url)
    assert (await Browser(made).click(known.token)).status == 302
    monkeypatch.setattr("hub.workers.clicks.PATIENCE", 0.0)
    assert (await Browser(made).click(known.token)).status == 302
    monkeypatch.undo()
    assert (await Browser(made).click(unknown.token)).status == 302


async def test_k1_who_comes_while_nobody_can_tell_is_not_early(database_url: str, tmp_path: Path) -> None:
    """The link was looked at before its message was accepted, and the person comes when the database is away."""
    link = await plant(database_url, is_personal=True, medium="whatsapp", message_id=new_id())
    async with frail(database_url, tmp_path) as hub:
        assert (await Browser(hub.world).click(link.token)).cookies == ()
        await hub.line.down()
        assert [len((await Browser(hub.world).click(link.token)).cookies) for _ in range(2)] == [2, 2]
        await hub.line.up()
        await until(lambda: hub.spooled() == 0)
    assert [click["kind"] for click in await stored(database_url, link)] == ["early", "person", "person"]


async def test_connections_that_lead_nowhere_any_more_keep_nobody_from_their_link(
    database_url: str, tmp_path: Path
) -> None:
    """As after a failover: nothing ends them, while new ones are answered."""
    links = [await plant(database_url) for _ in range(20)]
    async with frail(database_url, tmp_path) as hub:
        await asyncio.gather(*(Browser(hub.world).click(link.token) for link in links[:12]))
        hub.line.silent()
        replies = await asyncio.gather(*(Browser(hub.world).click(link.token) for link in links[11:18]))
        assert [reply.status for reply in replies] == [302] + [503] * 6
        hub.line.forsake()

        async def leads_on() -> bool:
            return (await Browser(hub.world).click(links[18].token)).status == 302

        await until(leads_on)
        await until(lambda: hub.spooled() == 0)
        assert (await Browser(hub.world).click(links[19].token)).status == 302
        await hub.line.down()  # else the hub waits for them as it stops


async def test_what_a_link_was_before_the_outage_is_read_anew_after_it(database_url: str, tmp_path: Path) -> None:
    """The notice of a change was for a connection that was lost."""
    link = await plant(database_url)
    async with frail(database_url, tmp_path) as hub:
        browser = Browser(hub.world)
        assert (await browser.click(link.token)).status == 302
        await hub.line.down()
        await ask(database_url, "update tracked_link set disabled_at = now() where id = $1", link.id)
        assert (await browser.click(link.token)).status == 302
        await hub.line.up()

        async def is_noticed() -> bool:
            return (await browser.click(link.token)).status == 410

        await until(is_noticed)


async def test_k3_a_click_that_comes_after_its_page_binds_all_the_same(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page is there while the click still lies in the spool: the replay decides."""
    read, may_read = ClickSpool.read, asyncio.Event()

    async def reads_later(self: ClickSpool, limit: int = 500) -> list[Click]:
        return await read(self, limit) if may_read.is_set() else []

    monkeypatch.setattr(ClickSpool, "read", reads_later)
    contact = await plant_contact(database_url)
    link = await plant(database_url, is_personal=True, contact_id=contact)
    async with frail(database_url, tmp_path) as hub:
        known, browser = Browser(hub.world), Browser(hub.world)
        assert (await known.click(link.token)).status == 302
        await hub.line.down()
        assert (await browser.click(link.token)).status == 302
        await hub.line.up()

        async def has_loaded() -> bool:
            return (await browser.load("/sale")).status == 204

        await until(has_loaded)
        assert await who(database_url, browser.visitor) is None
        may_read.set()

        async def is_bound() -> bool:
            return await who(database_url, browser.visitor) == contact

        await until(is_bound)
        await until(lambda: hub.spooled() == 0)


@pytest.mark.soak
async def test_two_processes_share_the_clicks_and_the_next_brings_in_what_they_leave(
    database_url: str, tmp_path: Path
) -> None:
    """Killed with clicks in their spools, of a day, too, that no partition was made for."""
    link, other = await plant(database_url, ago=timedelta(days=20)), await plant(database_url)
    environment = {
        "PARTYLINE_LINK_BASE_URL": f"https://{GO}", "PARTYLINE_SITE_DOMAINS": "shop.example",
        "PARTYLINE_TRACKING_CONSENT": "implied", "PARTYLINE_LOG_LEVEL": "info", "PARTYLINE_PROCESSES": "2",
    }  # fmt: skip
    folder = tmp_path / "data"
    folder.mkdir()
    async with line_to(database_url) as (url, line):
        process = HubProcess(folder, url, environment=environment)
        async with serving(process) as made:
            await until(lambda: len(process.says("hub.started")) == 2)

            async def click(followed: Planted) -> int:
                """Over a connection of its own, so that either process may take it."""
                async with aiohttp.ClientSession() as fresh:
                    return (await Browser(World(made.hub, made.simulator, fresh)).click(followed.token)).status

            async def clicks(followed: Planted, times: int) -> set[int]:
                return set(await asyncio.gather(*(click(followed) for _ in range(times))))

            for _ in range(5):  # so many that each process knows the link, whichever of them takes more
                assert await clicks(link, 30) == {302}
            assert await clicks(other, 10) == {302}
            await ask(database_url, "update tracked_link set disabled_at = now() where id = $1", other.id)

            async def is_noticed() -> bool:
                return await clicks(other, 12) == {410}

            await until(is_noticed)
            clicked_at = await ask(database_url, "select max(at) from click")
            await line.down()
            assert await clicks(link, 20) == {302}
            workers = process.workers()
            await process.end()
            await until(lambda: not any(map(_is_alive, workers)))
    today, before = clicked_at.date().isoformat(), (clicked_at - timedelta(days=12)).date().isoformat()
    for spool in (folder / "clicks").glob("*.spool"):
        spool.write_bytes(spool.read_bytes().replace(f'"at":"{today}'.encode(), f'"at":"{before}'.encode()))
    async with reopened(database_url, folder, **WEB):

        async def are_there() -> bool:
            return len(await stored(database_url, link)) == 170

        await until(are_there)
    days = Counter(click["at"].date().isoformat() for click in await stored(database_url, link))
    assert days == {today: 150, before: 20}
    assert await count(database_url, "told", link) == 170


def _is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
