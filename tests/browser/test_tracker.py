"""The tracker by itself, in a real browser: what it tells, when, and what it keeps to itself."""

import asyncio
import re

import pytest
from playwright.async_api import BrowserContext, Page

from tests.browser.stage import PATIENCE, Sink, Site

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def open_page(context: BrowserContext, site: Site, path: str = "/") -> Page:
    page = await context.new_page()
    await page.goto(site.url(path))
    return page


async def page_out_of_time(context: BrowserContext) -> Page:
    """A page whose clock stands still unless it is told to run."""
    page = await context.new_page()
    await page.clock.install(time=0)
    await page.clock.pause_at(1000)
    return page


async def test_a_view_says_where_and_since_when(context: BrowserContext, sink: Sink, site: Site) -> None:
    site.tag = sink.tag
    page = await open_page(context, site, "/first?a=1#part")
    seen = await sink.hears(1)
    assert seen | {"age": 0} == {
        "type": "page", "kind": "load", "url": site.url("/first?a=1"), "title": "/first", "referrer": "", "age": 0,
    }  # fmt: skip
    assert 0 <= seen["age"] < 10_000
    assert isinstance(seen["age"], int)
    first = sink.told[0]
    assert first.origin == site.url("")
    assert first.content_type == "text/plain"
    assert first.said["consent"] == "unset"
    assert "key" not in first.said
    assert re.fullmatch(r"[\w-]{22}", first.session)

    await page.goto(site.url("/second"), referer=site.url("/first?a=1"))
    assert (await sink.hears(2))["referrer"] == site.url("/first?a=1")
    other_tab = await open_page(context, site, "/third")
    await sink.hears(3)
    assert await other_tab.evaluate("document.cookie") == ""
    assert {told.session for told in sink.told} == {first.session}
    assert first.cookies == {}
    assert len({told.cookies["__Host-hv"] for told in sink.told[1:]}) == 1


async def test_a_session_ends_after_half_an_hour(context: BrowserContext, sink: Sink, site: Site) -> None:
    site.tag = sink.tag
    page = await context.new_page()
    await page.clock.install()
    for minutes in (0, 29, 29, 31):
        await page.clock.fast_forward(minutes * 60_000)
        views = len(sink.views())
        await page.goto(site.url(f"/{views}"))
        await sink.hears(views + 1)
    sessions = [told.session for told in sink.told]
    assert sessions[0] == sessions[1] == sessions[2] != sessions[3]


@pytest.mark.parametrize("has_navigation", [True, False], ids=["navigation", "history"])
async def test_routes_of_a_single_page(context: BrowserContext, sink: Sink, site: Site, has_navigation: bool) -> None:
    if not has_navigation:
        await context.add_init_script("Object.defineProperty(window, 'navigation', {value: undefined})")
    site.tag = sink.tag
    page = await open_page(context, site)
    await sink.hears(1)
    await page.evaluate("history.pushState(null, '', '/one'); document.title = 'One'")
    assert (await sink.hears(2))["title"] == "One"
    assert sink.of("page")[1]["referrer"] == site.url("/")
    for same in ("history.replaceState({a: 1}, '', '/one')", "history.pushState(null, '', '#part')"):
        await page.evaluate(same)
    await page.evaluate("history.pushState(null, '', '/gate'); history.replaceState(null, '', '/two')")
    await sink.hears(3)
    await page.evaluate("location.hash = '#/three'")
    await sink.hears(4)
    await page.go_back()
    await sink.hears(5)
    await page.evaluate("hub.page()")
    await sink.hears(6)
    assert sink.views() == [
        ("load", ""), ("route", "one"), ("route", "two"), ("route", "two#/three"), ("route", "two"), ("route", "two"),
    ]  # fmt: skip


async def test_engaged_is_a_second_in_sight_and_a_deed(context: BrowserContext, sink: Sink, site: Site) -> None:
    site.tag, site.body = sink.tag, "<p style='height: 5000px'>Long</p>"
    page = await page_out_of_time(context)
    await page.goto(site.url())
    await sink.hears(1)
    await page.clock.run_for(900)
    await page.mouse.click(50, 50)
    await page.clock.run_for(5000)
    await page.mouse.wheel(0, 500)
    await page.evaluate("dispatchEvent(new PointerEvent('pointerup'))")
    await page.evaluate("history.pushState(null, '', '/a')")
    await page.clock.run_for(10)
    await sink.hears(2)
    assert sink.of("engaged") == []
    await page.clock.run_for(1500)
    await page.keyboard.press("a")
    assert (await sink.hears(1, "engaged"))["url"] == site.url("/a")
    await page.mouse.click(50, 50)
    await page.evaluate("hub.page()")
    await sink.hears(3)
    await page.clock.run_for(1500)
    await page.mouse.click(50, 50)
    await sink.hears(2, "engaged")
    assert [event["type"] for event in sink.events] == ["page", "page", "engaged", "page", "engaged"]


async def test_time_out_of_sight_does_not_count(context: BrowserContext, sink: Sink, site: Site) -> None:
    await context.add_init_script("""
        let isHidden = false;
        Object.defineProperty(document, "hidden", {get: () => isHidden});
        window.hide = (value) => { isHidden = value; document.dispatchEvent(new Event("visibilitychange")); };
    """)
    site.tag = sink.tag
    page = await page_out_of_time(context)
    await page.goto(site.url())
    await sink.hears(1)
    await page.evaluate("hide(true)")
    await page.clock.run_for(5000)
    await page.keyboard.press("a")
    await page.evaluate("hide(false)")
    await page.keyboard.press("a")
    await page.evaluate("hub.page()")
    await sink.hears(2)
    assert sink.of("engaged") == []
    await page.clock.run_for(1000)
    await page.keyboard.press("a")
    await sink.hears(1, "engaged")


async def test_a_restored_page_is_a_view_but_no_load(context: BrowserContext, sink: Sink, site: Site) -> None:
    site.tag = sink.tag
    page = await open_page(context, site, "/a")
    await sink.hears(1)
    await page.goto(site.url("/b"))
    await sink.hears(2)
    await page.go_back(wait_until="commit")
    await sink.hears(3)
    assert sink.views() == [("load", "a"), ("load", "b"), ("restore", "a")]
    assert sink.of("page")[2].get("referrer", "") == ""


async def test_a_prerendered_page_is_told_when_it_is_shown(context: BrowserContext, sink: Sink, site: Site) -> None:
    await context.add_init_script(
        "if (location.pathname === '/later') Object.defineProperty(document, 'prerendering', {value: true})"
    )
    site.tag = sink.tag
    page = await open_page(context, site, "/later")
    await page.wait_for_function("window.hub")
    await open_page(context, site, "/sooner")
    await sink.hears(1)
    await page.evaluate("document.dispatchEvent(new Event('prerenderingchange'))")
    await sink.hears(2)
    assert sink.views() == [("load", "sooner"), ("load", "later")]


# Consent ------------------------------------------------------------------------------------------------------------


async def test_views_wait_for_the_visitors_answer(context: BrowserContext, asking: Sink, site: Site) -> None:
    site.tag = asking.tag
    page = await page_out_of_time(context)
    await page.goto(site.url("/a"))
    await page.wait_for_function("window.hub")
    await page.clock.run_for(60_000)
    await page.evaluate("history.pushState(null, '', '/b')")
    await page.clock.run_for(5000)
    assert await page.evaluate("localStorage.length") == 0
    assert asking.arrived == 0
    await page.evaluate("hub.consent(true)")
    await asking.hears(2)
    assert asking.views() == [("load", "a"), ("route", "b")]
    load, route = asking.of("page")
    assert load["age"] >= 65_000
    assert 5000 <= route["age"] < load["age"]
    assert asking.told[0].said["consent"] == "granted"
    await page.goto(site.url("/c"))
    await page.evaluate("hub.consent(true)")
    await asking.hears(3)
    assert "__Host-hv" in asking.told[-1].cookies
    assert asking.told[-1].session == asking.told[0].session


async def test_no_session_spans_the_answer(context: BrowserContext, asking: Sink, site: Site) -> None:
    site.tag = asking.tag
    page = await open_page(context, site)
    await page.evaluate("hub.identify({email: 'mia@example.com'})")
    await page.evaluate("hub.consent(true)")
    await asking.hears(1)
    said, viewed = asking.told
    assert [event["type"] for event in said.events + viewed.events] == ["identify", "page"]
    assert (said.said["consent"], said.cookies) == ("unset", {})
    assert said.session != viewed.session


async def test_a_page_left_without_an_answer_is_told_anonymously(
    context: BrowserContext, asking: Sink, site: Site
) -> None:
    site.tag = asking.tag
    page = await open_page(context, site, "/granted")
    await page.evaluate("hub.consent(true)")
    await asking.hears(1)
    await page.goto(site.url("/left"))
    await page.wait_for_function("window.hub")
    await page.goto(site.url("/denied"))
    await asking.hears(2)
    await page.evaluate("hub.consent(false)")
    await asking.hears(3)
    granted, left, denied = asking.told
    assert [told.said["consent"] for told in asking.told] == ["granted", "unset", "denied"]
    assert left.cookies == denied.cookies == {}
    assert len({granted.session, left.session, denied.session}) == 3
    assert await page.evaluate("localStorage.length") == 0


async def test_the_site_can_say_it_in_the_tag(context: BrowserContext, asking: Sink, site: Site) -> None:
    for path, tag in (("/yes", 'async data-consent="granted"'), ("/no", 'async data-consent="denied"')):
        site.tag = asking.tag_with(tag)
        await open_page(context, site, path)
        await asking.wait(lambda me, path=path: ("load", path[1:]) in me.views())  # type: ignore[misc]
    assert [told.said["consent"] for told in asking.told] == ["granted", "denied"]
    assert asking.told[1].cookies == {}


async def test_global_privacy_control_is_a_refusal(context: BrowserContext, sink: Sink, site: Site) -> None:
    site.tag = sink.tag_with('async data-consent="granted"')
    page = await open_page(context, site, "/before")
    await sink.hears(1)
    await context.add_init_script("Object.defineProperty(navigator, 'globalPrivacyControl', {value: true})")
    await page.goto(site.url("/after#_hk=AAAAAAAAAAAAAAAAAAAAAA"))
    await page.reload()
    await sink.hears(3)
    await page.evaluate("hub.consent(true); hub.page()")
    await sink.hears(4)
    for told in sink.told[1:]:
        assert told.said["consent"] == "denied"
        assert told.cookies == {}
        assert "key" not in told.said
    assert await page.evaluate("localStorage.length") == 0


# The key of a foreign link host -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fragment", "left"),
    [("#_hk=AAAAAAAAAAAAAAAAAAAA-_", ""), ("#part&_hk=AAAAAAAAAAAAAAAAAAAA-_", "#part"), ("#part", "#part")],
    ids=["alone", "behind", "none"],
)
async def test_a_key_is_out_of_the_address_at_once(
    context: BrowserContext, sink: Sink, site: Site, fragment: str, left: str
) -> None:
    site.tag = sink.tag_with("")
    site.head = "<script>window.seen = location.hash; history.replaceState({mine: 1}, '')</script>"
    page = await open_page(context, site, f"/{fragment}")
    await sink.hears(1)
    assert await page.evaluate("[seen, location.hash, history.length]") == [left, left, 2]
    await page.evaluate("history.pushState(null, '', '/next')")
    await sink.hears(2)
    assert sink.told[0].said.get("key") == ("AAAAAAAAAAAAAAAAAAAA-_" if "_hk" in fragment else None)
    assert "key" not in sink.told[1].said
    assert sink.of("page")[0]["title"] == "/"


# Sending ------------------------------------------------------------------------------------------------------------


async def test_one_request_at_a_time(context: BrowserContext, sink: Sink, site: Site) -> None:
    site.tag = sink.tag
    sink.gate.clear()
    page = await open_page(context, site)
    await sink.wait(lambda me: me.arrived == 1)
    for path in ("/a", "/b"):
        await page.evaluate(f"history.pushState(null, '', '{path}'); new Promise(done => setTimeout(done, 5))")
    assert sink.arrived == 1
    sink.gate.set()
    await sink.hears(3)
    assert [len(told.events) for told in sink.told] == [1, 2]
    assert "__Host-hv" in sink.told[1].cookies


async def test_what_waits_when_a_page_closes_is_told(context: BrowserContext, sink: Sink, site: Site) -> None:
    site.tag = sink.tag
    page = await open_page(context, site)
    await sink.hears(1)
    sink.gate.clear()
    for path in ("/a", "/b"):
        await page.evaluate(f"history.pushState(null, '', '{path}'); new Promise(done => setTimeout(done, 5))")
    await page.goto("about:blank")
    sink.gate.set()
    await sink.hears(3)
    assert sorted(sink.views()) == [("load", ""), ("route", "a"), ("route", "b")]
    beacon = next(told for told in sink.told if told.events[0]["url"] == site.url("/b"))
    assert (beacon.mode, beacon.content_type, beacon.origin) == ("no-cors", "text/plain", site.url(""))
    assert "__Host-hv" in beacon.cookies


async def test_what_was_not_taken_is_told_again(context: BrowserContext, sink: Sink, site: Site) -> None:
    site.tag = sink.tag
    sink.status = 503
    page = await page_out_of_time(context)
    await page.goto(site.url())
    await sink.wait(lambda me: me.answered == 1)
    await page.evaluate("history.pushState(null, '', '/a')")
    async with asyncio.timeout(PATIENCE):
        while sink.answered < 3:
            await page.clock.run_for(500)
        sink.status = 204
        while len(sink.views()) < 2:
            await page.clock.run_for(500)
    assert sink.views() == [("load", ""), ("route", "a")]
    load, route = sink.of("page")
    assert load["age"] >= 2000 + 4000 + 8000
    assert 4000 + 8000 <= route["age"] <= load["age"]


async def test_what_is_kept_is_bounded_and_keeps_the_load(context: BrowserContext, asking: Sink, site: Site) -> None:
    site.tag = asking.tag
    page = await open_page(context, site, "/first")
    await page.evaluate("for (let i = 0; i < 200; i++) { history.pushState(null, '', '/' + i); hub.page() }")
    await page.evaluate("hub.consent(true)")
    await asking.wait(lambda me: ("route", "199") in me.views())
    assert len(asking.views()) == 50
    assert asking.views()[0] == ("load", "first")
    assert max(len(told.events) for told in asking.told) == 10


# What a visitor says ------------------------------------------------------------------------------------------------


async def test_identify_says_what_was_wrong(context: BrowserContext, sink: Sink, site: Site) -> None:
    site.tag = sink.tag
    page = await open_page(context, site)
    await sink.hears(1)
    assert await page.evaluate("hub.identify({email: 'mia@example.com', consents: ['email']})") is None
    said = await sink.hears(1, "identify")
    assert {**said, "age": 0} == {"type": "identify", "email": "mia@example.com", "consents": ["email"], "age": 0}
    sink.status, sink.answer = 422, {"detail": "the phone cannot be read", "code": "invalid_request"}
    told = await page.evaluate("hub.identify({phone: 'x'}).catch(error => [error.message, error.code])")
    assert told == ["hub: the phone cannot be read", "invalid_request"]
    sink.status, sink.answer = 503, {}
    assert await page.evaluate("hub.identify({phone: '+4915112345678'}).catch(error => error.message)") == "hub: 503"
    assert await page.evaluate("hub.handle().catch(error => error.message)") == "hub: 503"
    sink.status = 204
    await page.evaluate("hub.identify({email: 'mia@example.org'})")
    assert await page.evaluate("hub.identify({phone: 10n}).catch(error => error.name)") == "TypeError"
    assert [event.get("email") or event.get("phone") for event in sink.of("identify")] == [
        "mia@example.com", "x", "+4915112345678", "mia@example.org",
    ]  # fmt: skip
    assert sink.of("handle") == []


async def test_a_handle_comes_back(context: BrowserContext, sink: Sink, site: Site) -> None:
    site.tag = sink.tag
    page = await open_page(context, site)
    await sink.hears(1)
    sink.status, sink.answer = 200, {"handle": "h4ndl3"}
    assert await page.evaluate("(hub.page(), hub.handle())") == "h4ndl3"
    assert [event["type"] for event in sink.told[-1].events] == ["handle"]


async def test_reset_ends_the_session(context: BrowserContext, sink: Sink, site: Site) -> None:
    site.tag = sink.tag
    page = await open_page(context, site)
    await sink.hears(1)
    await page.evaluate("hub.reset()")
    await page.evaluate("hub.page()")
    await sink.hears(2)
    before, reset, after = (told.session for told in sink.told)
    assert before == reset != after


# On other people's pages --------------------------------------------------------------------------------------------


async def test_early_calls_are_made(context: BrowserContext, asking: Sink, site: Site) -> None:
    site.tag = (
        "<script>(window.hub ||= []).push(['consent', true]); hub.push(['nonsense']); hub.push(['page'])</script>"
        + asking.tag
    )
    page = await open_page(context, site)
    await asking.hears(1)
    assert asking.told[0].said["consent"] == "granted"
    await page.evaluate("hub.push(['identify', {email: 'mia@example.com'}])")
    await asking.hears(1, "identify")


async def test_twice_loaded_tells_once(context: BrowserContext, sink: Sink, site: Site) -> None:
    site.tag = sink.tag_with("") * 2
    site.body = "<form id=hub><input name=q></form>"
    page = await open_page(context, site)
    await page.evaluate("hub.page()")
    await sink.hears(2)
    assert sink.views() == [("load", ""), ("route", "")]


async def test_a_strict_policy_needs_two_entries(context: BrowserContext, sink: Sink, site: Site) -> None:
    host = f"http://go.shop.localhost:{sink.port}"
    site.tag = sink.tag
    site.headers = {
        "Content-Security-Policy": f"default-src 'none'; script-src {host}; connect-src {host}; "
        "require-trusted-types-for 'script'",
        "Cross-Origin-Embedder-Policy": "require-corp",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
    }
    page = await context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    await page.goto(site.url())
    await sink.hears(1)
    assert sink.told[0].origin == site.url("")
    assert said == []


async def test_a_page_without_storage_is_told_all_the_same(context: BrowserContext, sink: Sink, site: Site) -> None:
    await context.add_init_script(
        "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('no', 'SecurityError') }})"
    )
    site.tag = sink.tag
    page = await open_page(context, site)
    await page.evaluate("hub.page()")
    await sink.hears(2)
    assert len({told.session for told in sink.told}) == 1


async def test_an_unreachable_collector_disturbs_nobody(context: BrowserContext, sink: Sink, site: Site) -> None:
    await context.route("**/collect", lambda route: route.abort())
    site.tag = sink.tag
    page = await open_page(context, site)
    await page.wait_for_function("window.hub")
    await page.evaluate("void hub.identify({email: 'mia@example.com'}); void hub.handle(); void hub.reset()")
    await page.evaluate("history.pushState(null, '', '/a')")
    assert await page.evaluate("hub.handle().catch(error => error instanceof Error)") is True
