"""Script in every text that somebody outside can put into the hub: the console shows it as text, and nothing runs.

The operator's pages are looked at with Chromium's content security policy switched off: they have to be right without
its help. A service's people look at them as they are.
"""

import asyncio
import itertools
import json
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser, ConsoleMessage, Dialog, Page, Request, expect

from hub.http import console
from tests.browser.console.hostile_scene import KINDS, HostileScene, open_hostile
from tests.browser.console.stage import PHONE, is_live
from tests.support.database import Server
from tests.support.wire import envelope, text, value
from tests.support.world import ADMIN

pytestmark = pytest.mark.asyncio(loop_scope="session")

INSPECT = """(own) => (doc) => {
    const faults = [], note = (one, why) => faults.push(`${why}: ${one.outerHTML.slice(0, 200)}`);
    const made = ".pwned, [style], [srcdoc], [ping], [autofocus]:not(#key), meta[http-equiv], iframe, frame, object,"
        + " embed, base, style, template, math, noscript, video, audio, foreignObject, animate, set";
    for (const one of doc.querySelectorAll(made)) note(one, "made");
    for (const one of doc.querySelectorAll("script")) {
        if (!/^[/]console[/]static[/]console[.][0-9a-f]{16}[.]js$/.test(one.getAttribute("src"))) note(one, "script");
    }
    for (const one of doc.querySelectorAll("*")) {
        for (const at of one.attributes) {
            if (/^on|["'<>=]/i.test(at.name)) note(one, `attribute ${at.name}`);
            if (!/^(href|src|action|formaction|xlink:href|data|poster|background|cite)$/.test(at.name)) continue;
            const url = new URL(at.value, location.href);
            const isOurs = own.includes(url.origin) && ["http:", "https:"].includes(url.protocol) && !url.username;
            const rel = (one.getAttribute("rel") || "").split(" ");
            const isMeant = one.tagName === "A" && /^https?:$/.test(url.protocol) && rel.includes("noopener")
                && rel.includes("noreferrer") && one.textContent.includes(url.host);
            if (!isOurs && !isMeant) note(one, at.name);
            const isInPlace = /^[/](console|docs|media|openapi[.]json)([/?#]|$)/.test(url.pathname);
            if (isOurs && !isInPlace) note(one, `${at.name} out of place`);
        }
    }
    if (doc.body.textContent.includes("490539")) faults.push("a template was evaluated");
    return faults;
}"""
LOOK = f"""(own) => {{
    for (const one of document.querySelectorAll("details")) one.open = true;
    const faults = ({INSPECT})(own)(document);
    if (window.__pwned !== undefined) faults.push("it ran");
    const root = document.documentElement;
    if (root.scrollWidth > root.clientWidth) {{
        const wide = [...document.querySelectorAll("main, main *")].filter((one) =>
            one.getBoundingClientRect().right > root.clientWidth + 1 && !one.closest(".table, pre, .scroll"));
        faults.push(`wide: ${{root.scrollWidth}} ${{wide.slice(-2).map((one) => one.outerHTML.slice(0, 300))}}`);
    }}
    const told = [...document.querySelectorAll("*")].flatMap((one) => [...one.attributes].map((at) => at.value));
    return [faults, [document.title, root.textContent, ...told].join("\\n")];
}}"""
FETCH = f"""async ([own, paths]) => {{
    const inspect = ({INSPECT})(own), faults = [], told = [];
    for (const path of paths) {{
        const answer = await fetch(path, {{redirect: "manual"}});
        if (answer.type === "opaqueredirect") continue;
        const kind = answer.headers.get("Content-Type"), body = await answer.text();
        if (answer.status >= 500) faults.push(`${{path}} ${{answer.status}}`);
        if (!kind.startsWith("text/html")) {{
            if (kind !== "application/problem+json") faults.push(`${{path}} is ${{kind}}`);
            continue;
        }}
        const page = new DOMParser().parseFromString(body, "text/html");
        for (const fault of inspect(page)) faults.push(`${{path.slice(0, 200)}} ${{fault}}`);
        const values = [...page.querySelectorAll("[value]")].map((one) => one.value);
        told.push(page.documentElement.textContent, ...values);
    }}
    return [faults, told.join("\\n")];
}}"""
"""The same of pages that are only parsed, which is much faster; what a page is made of is all in its answer."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scene(
    browser: Browser, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[HostileScene]:
    """Everything hostile, once for the module."""
    with pytest.MonkeyPatch.context() as patch:
        async with server.fresh() as url, open_hostile(browser, url, tmp_path_factory.mktemp("hostile"), patch) as made:
            yield made


class Watched:
    """A page of which nothing goes unnoticed: dialogs, errors of scripts and policies, requests, what it opens."""

    def __init__(self, scene: HostileScene, page: Page) -> None:
        self._scene, self.page = scene, page
        self.own = [scene.stage.url("").rstrip("/"), "https://hub.example.com"]
        self.faults: list[str] = []
        self.told = ""
        page.on("console", self._console)
        page.on("dialog", self._dialog)
        page.on("popup", lambda popup: self.faults.append(f"opened {popup.url}"))
        page.on("download", lambda file: self.faults.append(f"downloaded {file.url}"))
        page.context.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        is_status = message.text.startswith("Failed to load resource: the server responded with a status of 4")
        if message.type in {"error", "warning"} and not is_status:
            self.faults.append(f"console: {message.text[:300]}")

    async def _dialog(self, dialog: Dialog) -> None:
        self.faults.append(f"dialog {dialog.message}")
        await dialog.dismiss()

    def _request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if f"{parts.scheme}://{parts.netloc}" != self.own[0]:
            self.faults.append(f"request to {request.url[:200]}")

    async def visit(self, path: str) -> None:
        """Load a page, and look at it with all of it unfolded."""
        answer = await self.page.goto(self._scene.stage.url(path), wait_until="domcontentloaded")
        assert answer is not None
        assert answer.status in {200, 404}, (answer.status, path)
        await self.look(path)

    async def look(self, name: str) -> None:
        """At what is there now."""
        faults, told = await self.page.evaluate(LOOK, self.own)
        self._keep([f"{name[:200]} {fault}" for fault in faults], told)

    async def fetch(self, paths: Iterable[str]) -> None:
        """Have pages parsed as the browser does it."""
        self._keep(*await self.page.evaluate(FETCH, [self.own, list(paths)]))

    async def see(self, loaded: list[str], parsed: Iterable[str]) -> None:
        """Load these pages; of those, what they are made of is enough."""
        for path in loaded:
            await self.visit(path)
        await self.fetch(parsed)

    def _keep(self, faults: list[str], told: str) -> None:
        self.faults += faults
        self.told += told

    def hidden(self, texts: Mapping[str, str]) -> set[str]:
        """Which of these were nowhere, as they are or as JSON has them; blanks aside."""
        told = _squeeze(self.told)
        return {
            name for name, text in texts.items()
            if _squeeze(text) not in told and _squeeze(json.dumps(text, ensure_ascii=False)[1:-1]) not in told
        }  # fmt: skip


def _squeeze(told: str) -> str:
    return "".join(told.split())


@asynccontextmanager
async def watched(scene: HostileScene, key: str | None, **options: Any) -> AsyncIterator[Watched]:
    """Somebody on a telephone; in the end nothing was noticed."""
    async with scene.stage.at(key, viewport=PHONE, **options) as page:
        there = Watched(scene, page)
        yield there
        assert there.faults == []


def routes() -> list[re.Pattern[str]]:
    """Every page that the console has."""
    app = web.Application()
    console.add_routes(app)
    found = {route.resource.canonical for route in app.router.routes() if route.method == "GET" and route.resource}
    found -= {"/console/live", "/console/static/{name}"}
    return [re.compile(re.sub(r"{[^}]*}", "[^/?]+", path) + r"(\?|$)") for path in sorted(found)]


def of_each_kind(paths: list[str]) -> list[str]:
    """One page of each kind, the first; there is one of every kind."""
    chosen = []
    for route in routes():
        found = [path for path in paths if route.match(path)]
        assert found, route.pattern
        chosen.append(found[0])
    return chosen


OPERATORS = ("/console/quarantine", "/console/services", "/console/audit")
"""Pages that nobody else has."""
ALIKE = (
    "/console/conversations", "/console/contacts", "/console/search", "/console/links", "/console/visitors",
    "/console/events", "/console/merge", "/console/messages",
)  # fmt: skip
"""Pages on which the operator is shown less than a service: that one loads them."""
LIVES = ("/console/messages", "/console/events")
NOWHERE = {
    "answer of an endpoint",  # only its status is kept
    "declared name", "long declared name",  # what a profile says goes before it
    "looker id",  # people are told names
    "status title", "status message",  # Meta's details say more
    "file url", "target", "utm", "odd sid", "odd sms", "endpoint",  # percent-encoded, as they were given
    "page title",  # cut, and in one line
}  # fmt: skip
"""Texts that no page has as they are."""


async def test_nothing_of_it_runs_and_all_of_it_is_text(scene: HostileScene) -> None:
    kinds = of_each_kind(scene.paths)
    service = [path for path in kinds if path.startswith(ALIKE)]
    operator = [path for path in kinds if path not in service]
    async with watched(scene, ADMIN, bypass_csp=True) as one, watched(scene, scene.stage.helpdesk.key) as two:
        await asyncio.gather(
            one.see(operator, [path for path in scene.paths if not path.startswith(LIVES) and path not in operator]),
            two.see(service, {path for path in scene.paths if not path.startswith(OPERATORS)} - set(service)),
        )
        assert one.faults + two.faults == []
        texts = {name: said for name, said in scene.poison.texts.items() if "." not in name}  # those are of samples
        assert one.hidden(texts) & two.hidden(texts) == NOWHERE


async def test_nothing_runs_of_what_arrives_while_a_page_is_open(scene: HostileScene) -> None:
    """The script of the console swaps in what it fetches."""
    async with watched(scene, scene.stage.helpdesk.key, bypass_csp=True) as there:
        for path in (f"/console/conversations/{scene.conversation}", "/console/conversations"):
            await there.visit(path)
            await is_live(there.page)
            said = scene.poison.all(f"live at {path}")
            item = text(said, sender="4915155555555")
            assert (await scene.wire.meta(envelope(value([item])))).status == 200
            await expect(there.page.get_by_text(said[:40]).first).to_be_visible()
            await there.look(path)
            assert said[:80] in there.told


PARAMETERS = {
    "/console/search": ("q",), "/console/login": ("next",),
    "/console/conversations": ("show", "before", "service", "number"),
    "/console/conversations/{cnv}": ("before",), "/console/contacts": ("q", "before"),
    "/console/contacts/{con}/timeline": ("before",), "/console/contacts/{con}/operations": ("before",),
    "/console/contacts/{con}/consent": ("medium", "address", "number", "status"),
    "/console/visitors/{vis}": ("before",),
    "/console/merge-candidates": ("after",), "/console/merge": ("keep", "merge"),
    "/console/campaigns": ("after",), "/console/campaigns/x": ("service", "after"),
    "/console/deliveries": ("service", "number", "outcome", "event", "before"),
    "/console/deliveries/parked": ("service", "after"), "/console/dead-letters": ("service", "after"),
    "/console/replays": ("service", "before", "events", "conversation"),
    "/console/quarantine": ("state", "reason", "before"),
    "/console/services": ("after",), "/console/numbers": ("after",),
    "/console/audit": ("actor", "action", "subject", "service", "id", "before"),
    "/console/traffic": ("number", "service", "span"),
    "/console/live": ("topics",),
}  # fmt: skip


async def test_nothing_runs_of_what_an_address_says(scene: HostileScene) -> None:
    """In every part of every page's path, and in every parameter; in none of them, too."""
    source = "".join(file.read_text() for file in Path(console.__file__).parent.glob("*.py"))
    read = re.findall(r'(?:asked|number_of|phone_of)\(\s*request, "(\w+)"|query(?:\.get\(|\[)"(\w+)"', source)
    assert {first or second for first, second in read} <= {name for names in PARAMETERS.values() for name in names}
    parts = [part.partition("?")[0] for path in scene.paths for part in path.split("/")]
    ids = {name: next(part for part in parts if part.startswith(f"{name}_")) for name in ("cnv", "con", "vis")}
    every, kinds = "".join(KINDS), itertools.cycle([kind for kind in KINDS if len(kind) < 190])
    paths = [f"{path.format(**ids)}?{urlencode({name: next(kinds)})}" for path, names in PARAMETERS.items()
             for name in names if path != "/console/live"]  # fmt: skip
    for path in of_each_kind(scene.paths):
        parts = path.split("?")[0].split("/")
        paths += [
            "/".join([*parts[:place], quote(next(kinds), safe=""), *parts[place + 1 :]])
            for place in range(2, len(parts))
        ]
    paths += [f"/docs/{quote(every, safe='')}", f"/console/{quote(every, safe='')}", f"/docs?{urlencode({'q': every})}"]
    async with watched(scene, ADMIN, bypass_csp=True) as there:
        await there.visit(f"/console/search?{urlencode({'q': every[:200]})}")
        await there.visit(f"/console/contacts?{urlencode({'q': every[-190:]})}")
        await there.visit(f"/console/{quote(every, safe='')}")
        await there.fetch(paths)
    async with watched(scene, None, bypass_csp=True) as there:
        await there.visit(f"/console/login?{urlencode({'next': every})}")
        await there.visit(f"/console/login?{urlencode({'next': '/console/' + quote(every)})}")
        assert there.page.url.startswith(there.own[0])
        assert await there.page.locator("input[name=next]").input_value() in {"/console", "/console/" + quote(every)}
