"""The console from the side of HTTP: every answer is guarded, every form checked, and nothing leaks (H3, A3, C1, E3).

The pages are those that the router has, so that a page that is added is walked, too.
"""

import asyncio
import io
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import pytest_asyncio
from aiohttp import web

from hub.http import console, ingress
from hub.http.console import login, overview
from hub.http.console.rendering import HEADERS
from providers.simulator import Fault, Person, meta_answers
from tests.support.console_forms import Visitor, log_in
from tests.support.database import Server
from tests.support.scenes import SETTINGS, Shop, links_in
from tests.support.talk import ends
from tests.support.web import WWW
from tests.support.wire import Wire, connected, envelope, text, until, value
from tests.support.world import ADMIN, NUMBER, Service, World, world

pytestmark = pytest.mark.asyncio(loop_scope="module")

OTHER = "+15550002222"
SCOPES = ["read", "reply", "automate", "profiles"]
SECRET = "zqBetweenTheTwoOfUs"
CAMPAIGN = "zqCampaignOfTheirs"
SAID = "zqWhatTheyTellOfPeople"
"""The operator sees it, as what a service says of a contact is no message."""
STATE = (
    "service", "api_key", "number", "sender", "channel", "subscription", "subscription_secret", "dead_letter",
    "quarantine", "contact", "contact_address", "contact_trait", "consent_event", "tracked_link", "audit",
    "conversation",
    "message", "event", "pickup", "passed_conversation", "schedule", "template", "identity_op", "merge_candidate",
    "visitor_binding", "used_token", "media",
)  # fmt: skip
"""Tables that only somebody's wish changes, once everything has settled."""


@dataclass
class Town:
    """`crm` (the parent) writes masked to what `helpdesk` sees; `alone` has a number and a customer to itself, and a
    channel of its own on the number of the others.
    """

    world: World
    url: str
    crm: Service
    helpdesk: Service
    alone: Service
    ids: dict[str, list[str]] = field(default_factory=dict)
    theirs: dict[str, list[str]] = field(default_factory=dict)

    async def state(self) -> dict[str, str]:
        """What stands in the tables."""
        async with connected(self.url) as conn:
            all_of_it = "select md5(string_agg(t::text, ',' order by t::text)) from {} t"
            return {name: str(await conn.fetchval(all_of_it.format(name))) for name in STATE}

    async def request(self, visitor: Visitor | None, method: str, path: str, **more: Any) -> tuple[int, Any, str]:
        """One request, without following."""
        headers = {"Cookie": visitor.cookie} if visitor else {}
        headers |= more.pop("headers", {})
        url = self.world.hub.url + path
        async with self.world.session.request(
            method, url, allow_redirects=False, headers=headers, **more
        ) as answer:  # fmt: skip
            is_stream = answer.content_type == "text/event-stream"
            return answer.status, answer.headers, "" if is_stream else await answer.text()


KINDS = {
    "conversations": "cnv", "messages": "msg", "events": "evt", "contacts": "con", "visitors": "vis", "links": "lnk",
    "campaigns": "campaign", "subscriptions": "sub", "services": "svc", "numbers": "number", "replays": "rpl",
    "quarantine": "quarantine", "op": "op", "key_id": "key", "medium": "medium",
}  # fmt: skip
"""What stands in a path behind this, or in a place of this name."""


def routes(method: str) -> list[str]:
    """The console's, by method; `{...}` for what is filled in."""
    app = web.Application()
    console.add_routes(app)
    found = {route.resource.canonical for route in app.router.routes() if route.method == method and route.resource}
    return sorted(found - {"/console/static/{name}"})


def filled(route: str, ids: dict[str, list[str]]) -> list[str]:
    """A route with every one of the ids that belong into it; of the last place only, where there are several."""
    paths = [""]
    parts = route.split("/")[1:]
    for before, part in zip(["", *parts], parts, strict=False):
        if part.startswith("{"):
            name = part.strip("{}")
            kind = KINDS.get(name) or KINDS[before]
            paths = [f"{path}/{quote(one, safe='+')}" for path in paths for one in ids.get(kind, [])]
        else:
            paths = [f"{path}/{part}" for path in paths]
    return paths


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(server: Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    """Played once: every kind of message, masked; a customer of each service's own; something on every page."""
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(server.fresh())
        made = await stack.enter_async_context(world(url, tmp_path_factory.mktemp("hub"), **SETTINGS))
        crm, helpdesk, third = [await made.service(name, scopes=SCOPES) for name in ("CRM", "Helpdesk", "Third")]
        alone = await made.service("Alone", plan="standalone", scopes=SCOPES)
        for service in (crm, helpdesk, third):
            await service.connect()
        await alone.connect(OTHER)
        await alone.call("PUT", f"/v1/numbers/{NUMBER}/connection", {})  # Mia is its customer, too
        found = Town(made, url, crm, helpdesk, alone)
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        await _play(found, third, patch)
        yield found


async def _play(town: Town, third: Service, patch: pytest.MonkeyPatch) -> None:
    made, crm = town.world, town.crm
    shop = Shop(made, town.url, crm, town.helpdesk, third)
    mia = made.customer(Person("+4915112345678", name="Mia"))
    cnv = await shop.hears(mia)
    made.simulator.templates = []
    address = {"name": SECRET, "address": SECRET, "latitude": 1.0, "longitude": 2.0}
    kinds: list[dict[str, Any]] = [
        {"type": "text", "text": f"{SECRET} {WWW}/{SECRET}"},
        {"type": "location", "location": address},
        {"type": "contacts", "contacts": [{"name": {"formatted_name": SECRET, "first_name": SECRET}}]},
        {"type": "document", "text": SECRET,
         "media": [{"url": f"https://f.example/{SECRET}", "filename": f"{SECRET}.pdf"}]},
        {"type": "interactive", "interactive": {"type": "buttons", "text": SECRET, "header": SECRET, "footer": SECRET,
                                                "buttons": [{"id": SECRET, "title": SECRET[:20]}]}},
        {"type": "template", "template": {"name": SECRET, "language": "en", "components": [
            {"type": "body", "parameters": [{"type": "text", "text": SECRET}]}]}},
    ]  # fmt: skip
    sent = []
    for kind in kinds:
        body = {"origin": "agent", "agent": {"id": f"id-{SECRET}", "name": "Chris"}, **kind}
        answer = await crm.call("POST", f"/v1/conversations/{cnv}/messages", body)
        assert answer.status == 202, answer
        sent.append(answer.json["message"]["id"])
    await ends(crm, sent[-1], "sent", "delivered", "read")
    patch.setitem(meta_answers._TITLES, 131026, SECRET)
    made.simulator.fail_next(Fault.refused(131026))
    failed = (await crm.reply(cnv, SECRET, query="?wait=10")).json["message"]["id"]
    await ends(crm, failed, "failed")
    await shop.agrees("+4915112345678", "granted", "sms")
    wanted = {"to": "+4915112345678", "from": NUMBER, "medium": "sms", "origin": "campaign", "campaign": CAMPAIGN,
              "type": "text", "text": f"{SECRET}: {WWW}/{SECRET}/2"}  # fmt: skip
    campaign = (await crm.call("POST", "/v1/messages?wait=10", wanted)).json["message"]["id"]
    await ends(crm, campaign, "delivered", "read")
    device = shop.device()
    await device.taps(links_in(str(shop.customer("+4915112345678", "sms").received[-1].body))[0])
    await device.views(f"{WWW}/seen")
    await shop.declares(phone="+4915112345678", handle=await device.handle(), external_id=SAID, traits={"note": SAID})
    await crm.call("PUT", "/v1/consents/whatsapp/+4915112345678", {"status": "granted", "evidence": SAID})
    passing = {"to": third.id, "note": SECRET, "agent": {"id": "c", "name": "Chris"}}
    assert (await crm.call("POST", f"/v1/conversations/{cnv}/pass", passing)).status < 300
    lost = value([text("x")], metadata={"display_phone_number": "1", "phone_number_id": "999"})
    assert (await Wire(made).meta(envelope(lost))).status == 200
    zoe = made.customer(Person("+4915199999999", name="Zoe Zander"), number=OTHER)
    await zoe.says("Hello alone")
    heard = (await town.alone.endpoint.hears("message.received"))[0].data
    link = await town.alone.call("POST", "/v1/links", {"url": f"{WWW}/zqAlone", "campaign": "zqAlone"})
    talks = [one["id"] for one in (await town.alone.call("GET", "/v1/conversations")).json["items"]]
    talks.sort(key=lambda talk: talk != heard["conversation"]["id"])
    assert len(talks) == 2
    answers = [await town.alone.reply(talk, "zqAlone answers", query="?wait=5") for talk in talks]
    feed = (await town.alone.call("GET", "/v1/events?limit=200")).json["items"]
    town.theirs = {
        "cnv": talks, "con": [heard["contact"]["id"]],
        "msg": [heard["message"]["id"], *(one.json["message"]["id"] for one in answers)],
        "evt": [one["data"]["event_id"] for one in feed if "conversation" in one["data"]],
        "lnk": [link.json["id"]], "campaign": ["zqAlone"], "vis": [f"vis_{'0' * 32}"],
    }  # fmt: skip
    await _find_ids(town, cnv, [*sent, failed, campaign])


async def _find_ids(town: Town, cnv: str, messages: list[str]) -> None:
    made, crm = town.world, town.crm
    await made.simulator.settle()
    await crm.endpoint.hears("link.clicked")
    await until(lambda: len({d.data["event_id"] for d in town.helpdesk.endpoint.of("message.status")}) >= len(messages))
    contact = await Shop(made, town.url, crm, crm, crm).contact("+4915112345678")
    links = [one["id"] for message in messages
             for one in (await crm.call("GET", f"/v1/messages/{message}/links")).json["items"]]  # fmt: skip
    subs = (await made.call("GET", "/v1/admin/subscriptions?limit=200")).json["items"]
    operations = (await made.call("GET", f"/v1/admin/contacts/{contact['id']}/operations")).json["items"]
    entry = (await made.call("GET", "/v1/admin/quarantine")).json["items"][0]["id"]
    key = (await made.call("GET", f"/v1/admin/services/{crm.id}/keys")).json["items"][0]["id"]
    replays = [(await one.call("POST", "/v1/replays", {"conversation_id": talk, "number": number})).json["id"]
               for one, talk, number in ((crm, cnv, NUMBER), (town.alone, town.theirs["cnv"][0], OTHER))]  # fmt: skip
    last: dict[tuple[str, str], str] = {}
    for told in town.helpdesk.endpoint.deliveries:  # of statuses, those of one are enough
        kind = told.data.get("message", {}).get("type", "") if told.type == "message.queued" else ""
        last[told.type, kind] = told.data["event_id"]
    town.ids = {
        "cnv": [cnv], "msg": messages, "con": [contact["id"]], "lnk": links, "campaign": [CAMPAIGN], "number": [NUMBER],
        "evt": [*last.values()], "vis": [contact["bindings"][0]["visitor_id"]], "svc": [crm.id], "rpl": replays[:1],
        "sub": [one["id"] for one in subs if one["service"]["name"] != "Alone"],
        "op": [one["id"] for one in operations],
        "quarantine": [str(entry)], "key": [key], "medium": ["sms"],
    }  # fmt: skip
    own = {"svc": [town.alone.id], "quarantine": [str(entry)], "op": town.ids["op"][:1]}
    town.theirs |= own | {"rpl": replays[1:], "sub": [one["id"] for one in subs if one["service"]["name"] == "Alone"]}


def pages(town: Town) -> list[str]:
    """Every page, with every id of the shared channel and the operator's."""
    found = [path for route in routes("GET") for path in filled(route, town.ids) if path != "/console/live"]
    con, cnv = town.ids["con"][0], town.ids["cnv"][0]
    queries = {
        "/console/search": [{"q": one} for one in ("Mia", "+4915112345678", cnv, *town.ids["msg"], town.ids["evt"][0])],
        "/console/conversations": [{"show": one} for one in ("waiting", "held", "all")],
        "/console/merge": [{"keep": con, "merge": town.theirs["con"][0]}], "/console/contacts": [{"q": "Mia"}],
        f"/console/campaigns/{CAMPAIGN}": [{"service": town.crm.id}], "/console/traffic": [{"span": "week"}],
        "/console/deliveries": [{"event": town.ids["evt"][0]}],
    }  # fmt: skip
    return found + [f"{path}?{urlencode(one)}" for path, ones in queries.items() for one in ones]


# What each may see ----------------------------------------------------------------------------------------------------


async def test_c1_h3_no_page_tells_what_is_masked_or_a_key_and_looking_changes_nothing(
    town: Town, capfd: pytest.CaptureFixture[str]
) -> None:
    made, sim = town.world, town.world.simulator
    keys = [
        ADMIN, *(one.key for one in (town.crm, town.helpdesk, town.alone)), "whsec_", sim.meta_access_token,
        sim.twilio_auth_token, sim.meta_verify_token, *sim.meta_app_secrets,
    ]  # fmt: skip
    visitors = {name: await log_in(made, key) for name, key in (
        ("operator", ADMIN), ("helpdesk", town.helpdesk.key), ("author", town.crm.key))}  # fmt: skip
    keys += [visitor.cookie.partition("=")[2] for visitor in visitors.values()]
    before, authors = await town.state(), ""
    for name, visitor in visitors.items():
        for path in pages(town) if name != "author" else filled("/console/messages/{id}", town.ids):
            status, headers, page = await town.request(visitor, "GET", path)
            assert status in {200, 303, 403, 404, 422}, (name, path, status)
            assert {one: headers[one] for one in HEADERS} == HEADERS, path
            assert [key for key in keys if key in page] == [], (name, path)
            if name == "author":
                authors += page
            elif name == "helpdesk" or "/campaigns" not in path:
                hidden = [SECRET] + [CAMPAIGN, SAID] * (name == "helpdesk" and "/campaigns/" not in path)
                assert [one for one in hidden if one in page] == [], (name, path)
    assert authors.count(SECRET) > 15  # whose it is sees it, so there is something to hide
    assert await town.state() == before
    told = "".join(capfd.readouterr())
    assert [key for key in [*keys, SECRET] if key in told] == []


async def test_a3_h5_a_service_never_sees_what_is_another_channel_s(town: Town) -> None:
    helpdesk, alone = [await log_in(town.world, one.key) for one in (town.helpdesk, town.alone)]
    walked = set()
    channels = {kind: town.ids[kind][:3] for kind in ("cnv", "msg", "evt", "lnk", "campaign", "rpl", "sub")}
    for visitor, ids in ((helpdesk, town.theirs), (alone, channels)):
        for route in routes("GET"):
            for path in filled(route, ids) if "{" in route else ():
                walked.add(route)
                status, _, page = await town.request(visitor, "GET", path)
                expected = {403} if route.startswith(("/console/services", "/console/quarantine")) else {404}
                if route.endswith("/reveal"):  # leads back to the page, which is not there
                    assert status == 303, path
                    continue
                assert status in expected, (path, status)
                assert "Zoe" not in page
                assert "Mia" not in page
    assert walked == {route for route in routes("GET") if "{" in route} - {"/console/numbers/{e164}"}
    foreign = [one for kind, ones in town.theirs.items() for one in ones if kind not in {"vis", "op"}]
    foreign += ["Zoe", "+4915199999999", "zqAlone"]
    foreign.remove(town.theirs["quarantine"][0])
    for path in pages(town):
        if town.theirs["con"][0] not in path:
            page = (await town.request(helpdesk, "GET", path))[2]
            assert [one for one in foreign if one in page] == [], path
    for query in (
        "Zoe",
        "+4915199999999",
        *(ones[0] for kind, ones in town.theirs.items() if kind not in {"campaign", "quarantine", "vis", "op"}),
    ):
        page = (await town.request(helpdesk, "GET", f"/console/search?{urlencode({'q': query})}"))[2]
        assert "Nothing fits" in page, query
    for path in ("deliveries", "deliveries/parked", "dead-letters", "replays", "traffic", "conversations?show=held"):
        mark = "&" if "?" in path else "?"
        status, _, page = await town.request(
            helpdesk, "GET", f"/console/{path}{mark}service={town.alone.id}&number={quote(OTHER)}"
        )
        assert status in {200, 403, 404, 422}
        assert [one for one in foreign if one in page and one != town.alone.id] == [], path


async def test_e3_every_page_asks_for_its_scope(town: Town) -> None:
    profiles = ("contacts", "visitors", "links", "campaigns", "merge", "merge-candidates")
    for scopes in (["reply"], ["read"], ["profiles"]):
        service = await town.world.service("Scoped", scopes=scopes)
        await service.connect()
        visitor = await log_in(town.world, service.key)
        for route in routes("GET"):
            if route in {"/console/login", "/console/live"}:
                continue
            kind = route.split("/")[2] if route != "/console" else ""
            needed = "profiles" if kind in profiles or route.endswith("/links") else "read"
            is_operators = kind in {"quarantine", "services", "audit"}
            status = (await town.request(visitor, "GET", filled(route, town.ids)[0]))[0]
            assert (status == 403) == (is_operators or needed not in scopes), (scopes, route, status)
        status = (await town.request(visitor, "GET", "/console/live"))[0]
        assert status == (200 if "read" in scopes else 403)
        await town.world.call("DELETE", f"/v1/admin/services/{service.id}")


# Forms ----------------------------------------------------------------------------------------------------------------


async def test_h3_no_form_is_taken_from_elsewhere(town: Town) -> None:
    """Whatever its fields say: those that would do most are there."""
    forms = [route for route in routes("POST") if route != "/console/login"]
    assert len(forms) > 25
    operator, other = await log_in(town.world), await log_in(town.world)
    csrf, foreign = [(await one.get("/console")).form("/console/logout").fields["csrf"] for one in (operator, other)]
    fields = {"confirmed": "yes", "typed": "erase", "once": "x", "reason": "because", "service": town.crm.id,
              "mode": "skip", "name": "n", "plan": "bundle", "keep": town.ids["con"][0], "merge": town.theirs["con"][0],
              "e164": "+15550009999", "status": "revoked", "medium": "sms", "address": "+4915112345678"}  # fmt: skip
    before = await town.state()
    for route in forms:
        path = filled(route, town.ids)[0]
        for sent, headers in (
            ({}, {}), ({"csrf": ""}, {}), ({"csrf": foreign}, {}), ({"csrf": csrf}, {"Origin": "https://evil.example"}),
            ({"csrf": csrf}, {"Sec-Fetch-Site": "cross-site"}), ({"csrf": csrf}, {"Sec-Fetch-Site": "same-site"}),
        ):  # fmt: skip
            status, answered, page = await town.request(operator, "POST", path, data=fields | sent, headers=headers)
            assert status == 403, (path, sent, headers)
            assert 'href="/docs/errors#csrf"' in page
            assert {one: answered[one] for one in HEADERS} == HEADERS
        status = (await town.request(operator, "POST", path, json=fields | {"csrf": csrf}))[0]
        assert status == 422, path
        status, answered, _ = await town.request(None, "POST", path, data=fields | {"csrf": csrf})
        assert (status, answered["Location"]) == (303, "/console/login"), path
    for route in {*routes("GET"), *forms}:
        for path in filled(route, town.ids)[:1]:
            for method in ("PUT", "PATCH", "DELETE", "OPTIONS"):
                status, answered, _ = await town.request(operator, method, path)
                assert status in {404, 405}, (method, path)
                assert {one: answered[one] for one in HEADERS} == HEADERS, (method, path)
    assert await town.state() == before


# Headers --------------------------------------------------------------------------------------------------------------


async def test_h3_every_answer_carries_the_headers(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its status, and whoever made it: a page, the console's refusals, or those of aiohttp."""
    operator = await log_in(town.world)
    own = await log_in(town.world, town.helpdesk.key)
    csrf = (await operator.get("/console")).form("/console/logout").fields["csrf"]
    html, bearer = {"Accept": "text/html"}, {"Authorization": f"Bearer {ADMIN}"}
    big = b"csrf=" + csrf.encode() + b"&name=" + b"x" * ingress.MAX_BODY
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    cases: list[tuple[int, Visitor | None, str, str, dict[str, Any]]] = [
        (200, None, "GET", "/console/login", {}), (200, operator, "GET", "/console", {}),
        (200, operator, "HEAD", "/console", {}), (200, operator, "GET", "/console/live", {}),
        (200, operator, "GET", "/docs", {}), (200, operator, "GET", "/docs/errors", {}),
        (200, None, "GET", "/docs/api", {"headers": bearer}), (303, None, "GET", "/docs", {"headers": html}),
        (303, None, "GET", "/console", {}), (303, operator, "GET", "/console/login", {}),
        (303, None, "GET", "/console/nowhere", {}), (401, None, "GET", "/docs/errors", {}),
        (401, None, "GET", "/docs", {"headers": {"Authorization": "Bearer plk_nobody"}}),
        (401, None, "GET", "/console/live", {}),
        (401, None, "GET", "/console", {"headers": {"Partyline-Live": "swap"}}),
        (403, own, "GET", "/console/audit", {}),
        (403, None, "POST", "/console/login", {"headers": {"Origin": "null://"}}),
        (404, operator, "GET", "/console/nowhere", {}), (404, operator, "GET", "/console/static/x.css", {}),
        (404, operator, "GET", "/docs/nothing", {}), (404, operator, "GET", "/docs/a/b/c", {}),
        (404, operator, "GET", "/docs/%3Cscript%3E", {}), (404, operator, "POST", "/console/search", {}),
        (405, operator, "POST", "/console", {}), (405, operator, "POST", "/docs", {}),
        (405, None, "PUT", "/docs/errors", {}),
        (413, operator, "POST", "/console/services", {"data": io.BytesIO(big), "headers": form}),
        (422, operator, "GET", "/console/conversations?show=x", {}),
        (422, None, "POST", "/console/login", {"data": {}}),
        (422, None, "POST", "/console/login", {"json": {}}),
    ]  # fmt: skip
    style = re.search(r'"(/docs/docs\.css[^"]*)"', (await operator.get("/docs")).html)
    assert style
    assets = re.findall(r'"(/console/static/[^"]+)"', (await operator.get("/console")).html)
    cases += [(200, None, "GET", path, {}) for path in [style[1], *assets]]
    for expected, visitor, method, path, more in cases:
        status, headers, _ = await town.request(visitor, method, path, **more)
        assert status == expected, (method, path, status)
        kept = HEADERS.keys() - {"Cache-Control"} if expected == 200 and "." in path else HEADERS.keys()
        assert {one: headers[one] for one in kept} == {one: HEADERS[one] for one in kept}, (method, path)
    monkeypatch.setattr(overview, "read_standing", _breaks)
    status, headers, page = await town.request(operator, "GET", "/console")
    assert (status, {one: headers[one] for one in HEADERS}) == (500, HEADERS)
    assert SECRET not in page
    tries = [
        town.request(None, "POST", "/console/login", data={"key": f"plk_{n}"}) for n in range(login.MOST_FAILURES + 1)
    ]
    answers = await asyncio.gather(*tries)
    assert sorted(answer[0] for answer in answers)[-2:] == [401, 429]
    for _, headers, _ in answers:
        assert {one: headers[one] for one in HEADERS} == HEADERS


async def _breaks(*_: Any) -> None:
    raise RuntimeError(SECRET)


async def test_every_form_goes_through_the_checks() -> None:
    """The guard is the handler of every route that takes something, but of the login, which has no session yet."""
    app = web.Application()
    console.add_routes(app)
    for route in app.router.routes():
        if route.method not in {"GET", "HEAD", "*"}:
            is_login = route.handler is login.post_login
            assert is_login or route.handler.__qualname__.startswith("form.<locals>"), route
    source = Path(console.__file__).parent
    assert not [file.name for file in source.glob("*.py") if re.search(r"\.add_(put|patch|delete)\(", file.read_text())]
