"""The rows of the scenario table that are about browsers, in real ones, against a whole hub (docs/links.md)."""

import asyncio

import pytest
from aiohttp import web

from tests.browser.town import GO, Town

pytestmark = pytest.mark.asyncio(loop_scope="session")

GPC = "Object.defineProperty(navigator, 'globalPrivacyControl', {value: true})"
PREVIEW = "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)"


async def test_a_click_makes_earlier_and_later_visits_the_contacts(town: Town) -> None:
    mia = town.customer()
    async with town.device() as phone:
        await phone.visits("/before")
        link = await mia.gets_link()
        await mia.visited()
        await phone.opens(link)
        page = await phone.visits("/after")
        await phone.tells(page, "/route", "history.pushState(null, '', '/route')")
        await mia.visited("/before", "/landing", "/after", "/route")
        assert (await mia.profile())["bindings"][0]["trust"] == "click"
        await phone.opens(await mia.gets_link("/again"), "/again")
        assert len((await mia.profile())["bindings"]) == 1
        assert [name for name in await phone.cookies() if not name.startswith("__Secure-hc-")] == ["__Host-hv"]
        assert await page.evaluate("document.cookie") == ""


async def test_other_devices_and_cleared_cookies_are_nobodys(town: Town) -> None:
    mia = town.customer()
    async with town.device() as phone, town.device() as laptop:
        await phone.opens(await mia.gets_link())
        await laptop.visits("/on-the-laptop")
        await phone.context.clear_cookies()
        await phone.visits("/cleared")
        await phone.opens(await mia.gets_link("/known-again"), "/known-again")
        # A sentinel: what was cleared and is the same visitor is known by a later link; the laptop never is.
        await mia.visited("/landing", "/cleared", "/known-again")


async def test_the_same_link_on_a_second_device_waits_for_another_link(town: Town) -> None:
    mia = town.customer()
    link = await mia.gets_link()
    async with town.device() as phone, town.device() as laptop:
        await phone.opens(link)
        await laptop.visits("/laptop-before")
        await laptop.opens(link)
        await laptop.visits("/laptop-after")
        await phone.visits("/phone")
        await mia.visited("/landing", "/phone")
        await laptop.opens(await mia.gets_link("/second"), "/second")
        await mia.visited("/landing", "/landing", "/laptop-after", "/phone", "/second")


async def test_a_forwarded_link_tells_of_the_friend_to_nobody(town: Town) -> None:
    mia, ben = town.customer(), town.customer()
    link = await mia.gets_link()
    async with town.device() as hers, town.device() as his:
        await hers.opens(link)
        await his.opens(link)
        await his.visits("/friend")
        await hers.visits("/owner")
        await mia.visited("/landing", "/owner")
        await his.opens(await ben.gets_link("/his-own"), "/his-own")
        await mia.visited("/landing", "/owner")
        await ben.visited("/landing", "/friend", "/his-own")


async def test_two_contacts_on_one_browser_each_have_their_time(town: Town) -> None:
    mia, ben = town.customer(), town.customer()
    async with town.device() as shared:
        await shared.opens(await mia.gets_link("/mia"), "/mia")
        await shared.visits("/as-mia")
        await shared.opens(await ben.gets_link("/ben"), "/ben")
        await shared.visits("/as-ben")
        await mia.visited("/mia", "/as-mia")
        await ben.visited("/ben", "/as-ben")
        assert (await mia.profile())["bindings"][0]["until"] == (await ben.profile())["bindings"][0]["since"]


async def test_previews_and_prefetches_take_nothing_from_the_person(town: Town) -> None:
    mia = town.customer()
    link = await mia.gets_link()
    assert await town.request(link, **{"User-Agent": "", "Sec-Fetch-Dest": "empty"}) == 302
    town.site.body = f"<link rel=prefetch href='{link}'><a href='{link}'>Look</a>"
    try:
        async with town.device() as phone:
            page = await phone.context.new_page()
            async with page.expect_response(lambda answer: answer.url == link) as prefetched:
                await page.goto(town.site.url("/links"))
            assert (await prefetched.value).status == 503
            async with page.expect_response(lambda answer: "/landing" in (answer.request.post_data or "")):
                await page.click("text=Look")
            await mia.visited("/links", "/landing")
    finally:
        town.site.body = ""


async def test_a_foreign_preview_makes_the_link_suspect(town: Town) -> None:
    mia = town.customer()
    link = await mia.gets_link()
    assert await town.request(link, **{"User-Agent": PREVIEW}) == 302
    async with town.device() as phone:
        await phone.opens(link)
        await mia.visited()
        await phone.opens(await mia.gets_link("/clean"), "/clean")
        await mia.visited("/landing", "/clean")


async def test_global_privacy_control_is_kept_out_of_everything(town: Town) -> None:
    mia = town.customer()
    async with town.device(extra_http_headers={"Sec-GPC": "1"}) as phone, town.device() as other:
        await phone.context.add_init_script(GPC)
        link = await mia.gets_link()
        page = await phone.opens(link)
        await phone.visits("/private", page)
        assert await phone.cookies() == []
        assert await page.evaluate("localStorage.length") == 0
        await other.opens(await mia.gets_link("/open"), "/open")
        await mia.visited("/open")


async def test_after_reset_somebody_else_is_at_the_browser(town: Town) -> None:
    mia = town.customer()
    async with town.device() as shared, town.device() as phone:
        page = await shared.opens(await mia.gets_link())
        await page.evaluate("hub.reset()")
        await shared.visits("/next-person", page)
        await phone.opens(await mia.gets_link("/sentinel"), "/sentinel")
        await mia.visited("/landing", "/sentinel")


# Races --------------------------------------------------------------------------------------------------------------


async def test_two_tabs_that_open_links_at_once_are_one_browser(town: Town) -> None:
    mia = town.customer()
    links = {path: await mia.gets_link(path) for path in ("/one", "/two")}
    async with town.device() as phone:
        with town.door.holding(lambda request: request.host.startswith(GO) and request.method == "GET"
                               and "t.js" not in request.path) as held:  # fmt: skip
            tabs = [asyncio.create_task(phone.opens(link, path)) for path, link in links.items()]
            await held.reaches(2)
            held.release()
            await asyncio.gather(*tabs)
        await phone.visits("/after")
        await mia.visited("/after", "/one", "/two", in_order=False)


async def test_a_tab_that_loads_while_another_clicks_is_the_same_browser(town: Town) -> None:
    mia = town.customer()
    link = await mia.gets_link()

    def is_early(request: web.Request) -> bool:
        return request.path == "/collect" and not request.cookies

    async with town.device() as phone:
        with town.door.holding(is_early) as held:
            early = asyncio.create_task(phone.visits("/early"))
            await held.reaches(1)
            await phone.opens(link)
            held.release()
            await early
        await phone.visits("/after")
        # The late answer replaced the cookie that the click had given; its receipt proves that both are one browser.
        await mia.visited("/early", "/landing", "/after")
        assert len({binding["visitor_id"] for binding in (await mia.profile())["bindings"]}) == 2


# Consent ------------------------------------------------------------------------------------------------------------


async def test_where_consent_is_required_a_visit_counts_once_it_is_given(asking_town: Town) -> None:
    town = asking_town
    mia = town.customer()
    await mia.gets_link("/too-early")
    await mia.agrees()
    async with town.device() as phone:
        page = await phone.context.new_page()
        await page.goto(await mia.gets_link())
        await page.wait_for_function("window.hub")
        await mia.visited()
        await phone.tells(page, "/landing", "hub.consent(true)")
        await phone.tells(page, "/route", "history.pushState(null, '', '/route')")
        await mia.visited("/landing", "/route")


async def test_where_consent_is_required_nobody_is_known_without_it(asking_town: Town) -> None:
    town = asking_town
    silent, mia = town.customer(), town.customer()
    async with town.device() as first, town.device() as second:
        page = await first.context.new_page()
        await page.goto(await silent.gets_link())  # has not agreed: the link is nobody's
        await page.wait_for_function("window.hub")
        await first.tells(page, "/landing", "hub.consent(true)")
        await silent.visited()

        await mia.gets_link("/unused")
        await mia.agrees()
        page = await second.context.new_page()
        await page.goto(await mia.gets_link())
        await page.wait_for_function("window.hub")
        await second.tells(page, "/landing", "hub.consent(false)")
        await first.context.clear_cookies()
        page = await first.context.new_page()
        await page.goto(await mia.gets_link("/sentinel"))
        await page.wait_for_function("window.hub")
        await first.tells(page, "/sentinel", "hub.consent(true)")
        await mia.visited("/sentinel")


# Links on a foreign host --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fragment", ["", "#reviews"], ids=["bare", "fragment"])
async def test_a_foreign_link_host_hands_a_key_over(far_town: Town, fragment: str) -> None:
    town = far_town
    town.site.tag = town.tag_with("")
    town.site.head = "<script>window.seen = location.hash</script>"
    mia = town.customer()
    async with town.device() as phone, town.device() as friend:
        await phone.visits("/before")
        link = await mia.gets_link(fragment=fragment)
        async with phone.context.expect_event("response", lambda answer: answer.url == link) as redirected:
            page = await phone.opens(link)
        assert "_hk=" in (await redirected.value).headers["location"]
        assert await page.evaluate("[seen, location.hash]") == [fragment, fragment]
        await phone.visits("/after", page)
        await mia.visited("/before", "/landing", "/after")
        # A key is good once: the address of the landing, kept with its key, makes nobody the contact.
        await friend.opens((await redirected.value).headers["location"])
        await phone.visits("/sentinel", page)
        await mia.visited("/before", "/landing", "/after", "/sentinel")
