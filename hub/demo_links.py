"""The demo's story of a tracked link: what it counts, whose browser it tells, and whose it does not."""

import time
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

import aiohttp

from hub.demo_moves import ARROW, Lines, await_statuses, chat_of, everyone, ms
from hub.demo_stage import MIA, Part, Stage, require
from providers.simulator import Browser

_POT: Final = "/pots/round-belly"
_IPHONE: Final = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 "
    "Mobile/15E148 Safari/604.1"
)


async def link_is_tapped(stage: Stage) -> Lines:
    """A tap and the page it leads to make the browser's visits hers, those before included (K3); a preview counts for
    nothing (K1); who did not send the link sees that it was tapped, and not where it leads (C1).
    """
    marketing, shop = stage.parts["marketing"], stage.shop_url
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
        browser = Browser(http, stage.link_base)
        await browser.visits(f"{shop}/", "Pots")
        lines = ["Mia looks around in the shop; nobody knows that it is her"]
        path = f"/v1/consents/tracking/{quote(str(MIA.phone))}"
        status, _ = await stage.call("PUT", path, {"status": "granted"}, key=marketing.key)
        require(status == 200, f"Mia's consent to tracking is noted: {status}")
        url, began = await _send_link(stage, marketing, f"The round belly is back: {shop}{_POT}")
        lines.append(f"[magenta]Tom[/] ([cyan]marketing[/]) “... {shop}{_POT}” {ARROW} Mia reads [b]{url}[/]")
        preview = await browser.previews(url)
        require(preview.status == 302, f"WhatsApp's preview sees the page: {preview.status}")
        tapped = time.perf_counter()
        answer = await browser.taps(url)
        require((answer.status, answer.location) == (302, f"{shop}{_POT}"), f"the link leads to the pot: {answer}")
        took = time.perf_counter() - tapped
        await browser.visits(str(answer.location), "Round belly")
        await stage.until("all hear of the tap", lambda: all(p.of("link.clicked") for p in everyone(stage)))
        await stage.until("all hear who it was", lambda: all(p.of("visitor.identified") for p in everyone(stage)))
    lines.append(
        f"WhatsApp fetches a preview; Mia taps {ARROW} 302 {ms(took)} {ARROW} the shop, {ms(_since(began))} in all"
    )
    await _require_masked(stage, marketing)
    seen = await _visits(stage, marketing)
    require(seen == [f"{shop}/", f"{shop}{_POT}"], f"her timeline has both visits: {seen}")
    report = await _report(stage, marketing)
    require(report["clicks"]["people"] == 1, f"one tap counts, not {report['clicks']}")
    return [*lines, "her timeline shows the tap and both visits · clicks: 1 of a person, 1 preview"]


async def link_is_forwarded(stage: Stage) -> Lines:
    """A friend who opens the forwarded link is not Mia (K4)."""
    marketing, shop = stage.parts["marketing"], stage.shop_url
    url = next(word for word in str(stage.mia.received[-1].text).split() if word.startswith(stage.link_base))
    known = await _visits(stage, marketing)
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
        friend = Browser(http, stage.link_base, agent=_IPHONE)
        answer = await friend.taps(url)
        require(answer.location == f"{shop}{_POT}", f"the friend sees the pot, too: {answer}")
        await friend.visits(str(answer.location), "Round belly")
        await friend.visits(f"{shop}/checkout?pot=tall-cylinder", "Checkout")
    clicked = lambda: all(len(p.of("link.clicked")) == 2 for p in everyone(stage))  # noqa: E731
    await stage.until("all hear of the second tap", clicked)
    require(await _visits(stage, marketing) == known, "nothing of the friend's is on Mia's timeline")
    require(all(len(p.of("visitor.identified")) == 1 for p in everyone(stage)), "nobody else was made out")
    return ["Mia's friend opens the link on another phone and looks at two pages: counted, and not Mia's"]


async def _send_link(stage: Stage, part: Part, text: str) -> tuple[str, float]:
    """Tom of marketing sends it; gives the link as Mia reads it, and when he did."""
    began = time.perf_counter()
    answer = await part.backend.reply(chat_of(part, stage.mia), text, agent="Tom", once=str(uuid4()))
    send = await stage.mia.hears()
    words = [word for word in str(send.text).split() if word.startswith(stage.link_base)]
    require(len(words) == 1, f"Mia reads one tracked link: {send.text!r}")
    require(answer["message"]["text"] == text, "marketing sees its own words")
    await await_statuses(stage, answer["message"]["id"], "whatsapp")
    return words[0], began


async def _require_masked(stage: Stage, author: Part) -> None:
    for part in everyone(stage):
        link = part.of("link.clicked")[-1].data["link"]
        require(("target" in link) is (part is author), f"{part.name} sees where the link leads, or not: {link}")


async def _visits(stage: Stage, part: Part) -> list[str]:
    """The pages on Mia's timeline, the oldest first."""
    contact = next(h.data["contact"]["id"] for h in part.of("message.received") if h.data["contact"]["name"] == "Mia")
    status, page = await stage.call("GET", f"/v1/contacts/{contact}/timeline?after=0&limit=200", key=part.key)
    require(status == 200, f"marketing reads Mia's timeline: {status}")
    return [item["url"] for item in page["items"] if item["type"] == "web.page"]


async def _report(stage: Stage, part: Part) -> dict[str, Any]:
    link = part.of("link.clicked")[-1].data["link"]["id"]
    status, report = await stage.call("GET", f"/v1/links/{link}", key=part.key)
    require(status == 200, f"marketing reads the link's numbers: {status}")
    return dict(report)


def _since(began: float) -> float:
    return time.perf_counter() - began
