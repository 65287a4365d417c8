"""A hub in which every text that somebody outside can put there is hostile.

`Poison` makes the texts and remembers them; `play_hostile` brings them in by the ways there are: signed webhooks, the
collector, the adapter API, the operator's API, and answers of endpoints and providers.
"""

import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.async_api import Browser

from providers.simulator import Fault, Person, meta_answers, twilio_answers
from tests.browser.console.stage import SCOPES, ConsoleStage
from tests.support.provider_samples import meta_samples, twilio_samples
from tests.support.scenes import SETTINGS, Shop, links_in
from tests.support.talk import ends
from tests.support.web import WWW
from tests.support.wire import FORM, Wire, envelope, unique, until
from tests.support.world import ADMIN, NUMBER, Service, World, world

OTHER = "+15550002222"
THIRD = "+15550003333"
"""On WhatsApp through Twilio."""
LONG = 10_000
KINDS = (
    "<script>window.__pwned=1</script>",
    "<img class=pwned src=//evil.example/i onerror=window.__pwned=1>",
    "<svg class=pwned onload=window.__pwned=1>",
    '"><b class=pwned onmouseover="window.__pwned=1">',
    "' autofocus onfocus='window.__pwned=1' class='pwned",
    "javascript:window.__pwned=1//",
    "data:text/html,<script>window.__pwned=1</script>",
    "{{70077*7}}{% for x in [1] %}${70077*7}#{70077*7}<%=70077*7%>",
    "</style><style class=pwned>*{display:none}</style>",
    '" style="position:fixed;inset:0" class="pwned',
    "\u202e\u2066gnp.exe\u202a",
    "</textarea></title></select></option></noscript></code></pre><b class=pwned>",
    "--><b class=pwned><!-- ]]><![CDATA[",
    "\r\nLocation: //evil.example\r\n\r\n<b class=pwned>",
    "\U0001f469\u200d\ufe0f\U0001f1e9\u0301\u0489\ufffd\U0001f468\u200d",
    "<iframe class=pwned srcdoc='<script>parent.__pwned=1</script>'></iframe><base href=//evil.example>",
    "&lt;b class=pwned&gt;&#60;script&#62;\\u003cscript\\u003e%3Cscript%3E",
    "<a class=pwned href=//evil.example target=_blank>x</a><form class=pwned action=//evil.example>",
    "<template class=pwned></template><math><mtext><table><mglyph><style><img class=pwned src=x>",
    "x\x7f\x1b[31m\u2028\u2029\u0085<b class=pwned>",
)
"""Ways to break out of a page; each at the end of a text that has a mark of its own."""


@dataclass
class Poison:
    """Makes hostile texts; `texts` by what they are."""

    texts: dict[str, str] = field(default_factory=dict)
    _count: "itertools.count[int]" = field(default_factory=itertools.count)

    def all(self, name: str, most: int = LONG) -> str:
        """All kinds in one text."""
        return self._keep(name, " ".join(KINDS), most)

    def one(self, name: str, most: int = 200) -> str:
        """One kind, and the next at the next call; of those that fit into so many characters."""
        fitting = [kind for kind in KINDS if len(kind) + 6 <= most] or ["<b class=pwned>"]
        return self._keep(name, fitting[next(self._count) % len(fitting)], most)

    def long(self, name: str, most: int = LONG) -> str:
        """One very long word."""
        return self._keep(name, "W" * most, most)

    def given(self, name: str, kind: str) -> str:
        """This one."""
        return self._keep(name, kind)

    def _keep(self, name: str, kind: str, most: int = LONG) -> str:
        text = f"zq{next(self._count)}q{kind}"[:most]
        self.texts[name] = text
        return text


@dataclass
class HostileScene:
    """Where to look, and what must be seen there. `ids`: of what pages are about, by the places of their paths."""

    stage: ConsoleStage
    poison: Poison
    paths: list[str] = field(default_factory=list)
    conversation: str = ""
    wire: Wire = field(init=False)

    def __post_init__(self) -> None:
        self.wire = Wire(self.stage.world)


@asynccontextmanager
async def open_hostile(
    browser: Browser, url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[HostileScene]:
    """A hub of its own, and everything hostile in it."""
    poison = Poison()
    async with world(url, folder, **SETTINGS) as made:
        product: dict[str, Any] = {"product": poison.one("product"), "scopes": SCOPES}
        helpdesk = await made.service(poison.one("service name"), **product)
        crm = await made.service(poison.long("long service name", 200), scopes=SCOPES)
        alone = await made.service(poison.one("other name"), plan=poison.one("plan"), scopes=SCOPES)
        helpdesk.endpoint.url += "?" + quote(poison.one("endpoint"), safe="'<>\";()*={}/:")
        third = {"medium": "whatsapp", "provider": "twilio", "external_id": THIRD}
        assert (await made.call("POST", "/v1/admin/numbers", {"e164": THIRD, "senders": [third]})).status == 201
        for service in (helpdesk, crm, alone):
            await service.connect()
        await helpdesk.call("PUT", f"/v1/numbers/{THIRD}/connection", {})
        eve = made.customer(Person("+4915155555555", name=poison.all("profile name"), username="eve"))
        bob = made.customer(Person("+4915187654321"), provider="twilio", medium="sms")
        stage = ConsoleStage(made, browser, url, helpdesk, crm, alone, eve, bob, eve)
        scene = HostileScene(stage, poison)
        await _Play(scene, Shop(made, url, helpdesk, crm, alone), monkeypatch).all()
        yield scene


STRUCTURE = {
    "id", "from", "to", "timestamp", "type", "wa_id", "user_id", "phone_number_id", "display_phone_number", "phone",
    "message_id", "original_message_id", "group_id", "latitude", "longitude", "recipient_id", "source_id", "sha256",
    "biz_opaque_callback_data", "status", "username", "messaging_product", "response_json",
}  # fmt: skip
LEFT_OUT = {"system", "user id", "preference", "history", "history media", "statuses", "group", "stop"}
"""Samples that change who customers are or what they want, which other texts need as they are."""
TWILIO_STRUCTURE = {
    "MessageSid", "AccountSid", "From", "To", "NumMedia", "WaId", "MessageStatus", "ErrorCode", "Latitude", "Longitude",
    "MediaUrl0", "ExternalUserId", "ProfileUsername", "OptOutType",
}  # fmt: skip


class _Play:
    def __init__(self, scene: HostileScene, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
        self._scene, self._shop, self._patch = scene, shop, monkeypatch
        self._stage, self._poison, self._wire = scene.stage, scene.poison, scene.wire
        self._world: World = scene.stage.world
        self._helpdesk: Service = scene.stage.helpdesk
        self._crm: Service = scene.stage.crm

    async def all(self) -> None:
        self._cnv = self._scene.conversation = await self._shop.hears(self._stage.eve, "Hello")
        await self._webhooks()
        await self._quarantine()
        sent = await self._replies()
        failed = await self._failures()
        link, visitor, contact, other = await self._people()
        await self._administration()
        await self._settle()
        await self._find_paths([*sent, *failed], link, visitor, contact, other)

    def _dirty(self, value: Any, name: str) -> Any:
        """A sample with a hostile text wherever a free one stands."""
        if isinstance(value, dict):
            return {key: inner if key in STRUCTURE and not isinstance(inner, dict | list)
                    else self._dirty(inner, f"{name}.{key}") for key, inner in value.items()}  # fmt: skip
        if isinstance(value, list):
            return [self._dirty(inner, name) for inner in value]
        if not isinstance(value, str):
            return value
        return self._poison.all(name) if name.endswith((".body", ".caption")) else self._poison.one(name)

    async def _webhooks(self) -> None:
        """Everything that Meta and Twilio post, from people whose names are hostile."""
        for field_name, kind, value in meta_samples():
            if kind in LEFT_OUT:
                continue
            told = json.loads(json.dumps(value).replace("4915112345678", "4915155555555").replace("DE.1", "DE.5"))
            for item in [*told.get("messages", []), *told.get("message_echoes", []), *told.get("calls", [])]:
                item["id"] = unique()
            body = self._dirty(told, next(iter([m["type"] for m in told.get("messages", [])]), kind))
            assert (await self._wire.meta(envelope(body, field=field_name))).status == 200, kind
        extra: dict[str, dict[str, Any]] = {
            "location": {"latitude": 1.5, "longitude": 2.5, "name": "a", "address": "b", "url": "javascript:alert(1)"},
            "interactive": {"type": "list_reply", "list_reply": {"id": "a", "title": "b", "description": "c"}},
            "button": {"text": "yes", "payload": "y"},
            "order": {"catalog_id": "c", "text": "t", "product_items": [{"product_retailer_id": "p", "currency": "E"}]},
            "text": {"body": "x"},
            "document": {"id": "55", "mime_type": "x", "filename": "y", "caption": "z"},
        }
        ad = {"source_url": "u", "headline": "h", "body": "b", "image_url": "i", "source_type": "ad", "source_id": "1"}
        for kind, content in extra.items():
            message = {"from": "4915155555555", "id": unique(), "timestamp": "1790000000", "type": kind}
            message |= self._dirty({kind: content, "referral": ad}, f"more {kind}")
            person = {"profile": {"name": self._poison.texts["profile name"]}, "wa_id": "4915155555555"}
            more = self._value([message], contacts=[person])
            assert (await self._wire.meta(envelope(more))).status == 200
        long = {"from": "4915155555555", "id": unique(), "timestamp": "1790000001", "type": "text"}
        halves = '"zqhalf\\ud83d <b class=pwned>\\udc00"'  # halves of characters
        body = json.dumps(envelope(self._value([long | {"text": {"body": self._poison.long("long text")}}])))
        assert (await self._wire.meta(body.encode())).status == 200
        body = json.dumps(envelope(self._value([long | {"id": unique(), "text": {"body": "HALVES"}}])))
        assert (await self._wire.meta(body.replace('"HALVES"', halves).encode())).status == 200
        name = {"profile": {"name": self._poison.long("long profile name")}, "wa_id": "4915166666666"}
        long_one = long | {"from": "4915166666666", "id": unique(), "text": {"body": "Long"}}
        assert (await self._wire.meta(envelope(self._value([long_one], contacts=[name])))).status == 200
        more_fields = {"Body": "t", "ReferralHeadline": "h", "ReferralBody": "b", "ReferralSourceUrl": "u",
                       "ButtonText": "x", "Label": "l", "Address": "a"}  # fmt: skip
        for kind, form in twilio_samples():
            if kind in LEFT_OUT | {"status", "failed", "hidden"}:
                continue
            told = (
                form | {"From": form["From"].replace("12345678", "87654321"), "MessageSid": unique("SM")} | more_fields
            )
            if form["To"].startswith("whatsapp:"):
                told["To"] = f"whatsapp:{THIRD}"
            dirty = {key: inner if key in TWILIO_STRUCTURE else self._poison.one(f"twilio {kind}.{key}")
                     for key, inner in told.items()}  # fmt: skip
            assert (await self._wire.twilio(list(dirty.items()))).status == 200, kind

    def _value(self, messages: list[Any], **more: Any) -> dict[str, Any]:
        metadata = {"display_phone_number": NUMBER[1:], "phone_number_id": "100000000000001"}
        return {"messaging_product": "whatsapp", "metadata": metadata, "messages": messages} | more

    async def _quarantine(self) -> None:
        """HTML for a body, hostile content types, items of numbers that nobody has."""
        title = self._poison.given("quarantined page", KINDS[0] + KINDS[3] + KINDS[11])
        page = f"<!doctype html><title>{title}</title>".encode()
        kind = f"text/html; x={self._poison.one('content type', 40)}".replace("\r\n", "")
        await self._wire.meta(page, content_type=kind)
        lost = self._value([{"from": "1", "id": unique(), "type": "text", "text": {"body": "x"}}])
        lost["metadata"]["phone_number_id"] = self._poison.one("unknown number id")
        lost["messages"][0]["text"]["body"] = self._poison.given("quarantined text", KINDS[0] + KINDS[4])
        await self._wire.meta(envelope(lost))
        await self._wire.twilio([("MessageSid", self._poison.one("odd sid")), ("Body", self._poison.all("odd sms"))])
        await self._wire.twilio([("To", self._poison.long("long to"))], content_type=FORM)

    async def _replies(self) -> list[str]:
        """What services write: own and masked, of every kind."""
        p, sent = self._poison, []
        agent = {"id": p.one("agent id"), "name": p.one("agent name")}
        place = {"latitude": 1.0, "longitude": 2.0, "name": p.one("place"), "address": p.one("place address")}
        name = {"formatted_name": p.one("card name"), "first_name": p.one("card first name")}
        kinds: list[dict[str, Any]] = [
            {"type": "text", "text": p.all("reply")},
            {"type": "text", "text": f"{p.long('long reply', 3000)} {WWW}/a?q=%22%3E{quote(p.one('target'))}"},
            {"type": "location", "location": place},
            {"type": "contacts", "contacts": [{"name": name, "urls": [{"url": p.one("card url")}]}]},
            {"type": "document", "text": p.one("caption"),
             "media": [{"url": f"https://files.example/{quote(p.one('file url'))}",
                        "filename": p.given("file name", "<b class=pwned>.pdf")}]},
            {"type": "interactive", "interactive": {
                "type": "buttons", "text": p.all("question", 1000), "header": p.one("header", 60),
                "footer": p.one("footer", 60), "buttons": [{"id": p.one("button id"), "title": p.one("button", 20)}]}},
            {"type": "interactive", "interactive": {
                "type": "list", "text": p.one("list text"), "button": p.one("list button", 20),
                "sections": [{"title": p.one("section", 24), "rows": [
                    {"id": p.one("row id"), "title": p.one("row", 24), "description": p.one("row text", 72)}]}]}},
            {"type": "interactive", "interactive": {
                "type": "cta_url", "text": p.one("cta"), "title": p.one("cta title", 20), "url": f"{WWW}/?x='><b>"}},
            {"type": "template", "template": {"name": p.one("template name"), "language": "en", "components": [
                {"type": "body", "parameters": [{"type": "text", "text": p.one("template parameter")}]}]}},
        ]  # fmt: skip
        self._world.simulator.templates = []
        for service in (self._helpdesk, self._crm):
            for kind in kinds if service is self._helpdesk else kinds[:1]:
                body = {"origin": "agent", "agent": agent, **kind}
                answer = await service.call("POST", f"/v1/conversations/{self._cnv}/messages", body)
                assert answer.status == 202, (kind, answer)
                sent.append(answer.json["message"]["id"])
        await ends(self._helpdesk, sent[-1], "sent", "delivered", "read", "failed")  # and those before it
        return sent

    async def _failures(self) -> list[str]:
        """What providers say of messages that they do not take, and endpoints of events."""
        p, failed = self._poison, []
        titles = meta_answers._TITLES
        self._patch.setitem(titles, 131026, p.given("title of Meta's error", KINDS[0] + KINDS[4]))
        self._patch.setitem(twilio_answers._TITLES, 21211, p.given("message of Twilio's error", KINDS[1] + KINDS[3]))
        sms = await self._shop.hears(self._stage.bob, p.one("an sms"))
        for conversation, code in ((self._cnv, 131026), (sms, 21211)):
            await self._world.simulator.settle()
            self._world.simulator.fail_next(Fault.refused(code))
            answer = await self._helpdesk.reply(conversation, "And this?", query="?wait=10")
            failed.append(answer.json["message"]["id"])
            await ends(self._helpdesk, failed[-1], "failed")
        self._sms = sms
        told = await self._helpdesk.reply(self._cnv, "Told later", query="?wait=10")
        fault = {"code": 131000, "title": p.one("status title"), "message": p.one("status message"),
                 "error_data": {"details": p.one("status details")}, "href": "javascript:window.__pwned=1"}  # fmt: skip
        status = {"id": told.json["message"]["provider_id"], "status": "failed", "timestamp": "1790000000",
                  "recipient_id": "4915155555555", "errors": [fault]}  # fmt: skip
        value = self._value([]) | {"statuses": [status]}
        assert (await self._wire.meta(envelope(value))).status == 200
        failed.append(told.json["message"]["id"])
        endpoint = self._stage.marketing.endpoint
        endpoint.body, endpoint.answer = p.all("answer of an endpoint").encode("utf-8"), lambda _: 422
        endpoint.headers["Content-Type"] = "text/html"
        return failed

    async def _people(self) -> tuple[str, str, str, str]:
        """Browsers, what services say of people, links, campaigns, merge candidates."""
        p, shop, device = self._poison, self._shop, self._shop.device()
        campaign, mine = p.one("campaign") + "/..", "+4915155555555"
        await shop.agrees(mine, "granted", "sms")
        wanted = {"to": mine, "from": NUMBER, "medium": "sms", "origin": "campaign", "campaign": campaign,
                  "type": "text", "text": f"Now: {WWW}/sale"}  # fmt: skip
        answer = await self._helpdesk.call("POST", "/v1/messages?wait=10", wanted)
        assert answer.status == 202, answer
        message = answer.json["message"]["id"]
        self._campaign = campaign
        await ends(self._helpdesk, message, "delivered", "read")
        customer = shop.customer(mine, "sms")
        await device.opens(links_in(str(customer.received[-1].body))[0])
        for url in (f"{WWW}/x?q={p.one('page')}", f"{WWW}/{p.long('long page', 1900)}", f"{WWW}/#{p.one('fragment')}"):
            seen = {"type": "page", "kind": "load", "age": 0, "title": p.all("page title"), "url": url,
                    "referrer": f"https://evil.example/?{p.one('referrer')}"}  # fmt: skip
            assert (await device.collect(seen)).status == 204, url
        for url in ("javascript:window.__pwned=1", "data:text/html,x", "//evil.example/", f"{WWW}@evil.example/"):
            assert (await device.collect({"type": "page", "kind": "load", "age": 0, "url": url})).status in {204, 422}
            link = await self._helpdesk.call("POST", "/v1/links", {"url": url})
            assert link.status == 422, (url, link)
        made = await self._helpdesk.call(
            "POST", "/v1/links", {"url": f"{WWW}/?q={p.given('link target', '%22%3E%3Cb;{{70077*7}}')}",
                                  "campaign": p.one("link campaign"), "utm": {"source": p.one("utm")}},
        )  # fmt: skip
        assert made.status == 201, made
        self._link = made.json["id"]
        said = {"constructor": p.all("trait"), "deep": {p.one("key in a trait"): [p.one("deep trait")]}}
        await shop.declares(phone=mine, handle=await device.handle(), external_id=p.one("external id"),
                            name=p.one("declared name"), traits=said, email="eve@example.com")  # fmt: skip
        contact = (await shop.contact(mine))["id"]
        consent = {"status": "granted", "evidence": p.all("evidence")}
        assert (await self._helpdesk.call("PUT", f"/v1/consents/whatsapp/{mine}", consent)).status == 200
        other = "+4915166666666"
        await shop.declares(phone=other, email="eve@example.com", name=p.long("long declared name", 200))
        view = await self._helpdesk.call("GET", f"/v1/messages/{message}/links")
        binding = (await shop.contact(mine))["bindings"][0]
        return view.json["items"][0]["id"], binding["visitor_id"], contact, (await shop.contacts(other))[0]["id"]

    async def _administration(self) -> None:
        """Notes, reasons, names of agents."""
        p, world = self._poison, self._world
        agent = {"agent": {"id": p.one("picker id"), "name": p.one("picker name")}}
        cnv = f"/v1/conversations/{self._cnv}"
        assert (await self._helpdesk.call("POST", f"{cnv}/pickup", agent)).status < 300
        looking = {"agent": {"id": p.one("looker id"), "name": p.one("looker name")}, "state": "typing"}
        assert (await self._crm.call("POST", f"{cnv}/presence", looking)).status < 300
        passing = {"to": self._crm.id, "note": p.all("note of a pass"), **agent}
        path = f"/v1/conversations/{self._sms}/pass"
        assert (await self._helpdesk.call("POST", path, passing)).status < 300
        for heir, name in ((self._crm, "note of a hand-over"), (self._helpdesk, "long note")):
            note = p.all(name, 1000) if name != "long note" else p.long(name, 1000)
            wanted = {"service_id": heir.id, "note": note}
            assert (await world.call("PUT", f"/v1/admin/numbers/{NUMBER}/parent", wanted)).status == 200
        reason = {"reason": p.one("reason of a reveal")}
        masked = (await self._crm.reply(self._cnv, "Between us", agent=p.one("masked agent", 60))).json["message"]["id"]
        assert (await world.call("POST", f"/v1/admin/messages/{masked}/reveal", reason)).status == 200
        self._masked = masked

    async def _settle(self) -> None:
        """Until the hostile endpoint has refused something, and nothing more is under way."""
        await self._world.simulator.settle()

        async def refused() -> bool:
            answer = await self._world.call("GET", "/v1/admin/deliveries?limit=200")
            return any(item["http_status"] == 422 for item in answer.json["items"])

        await until(refused)

    async def _find_paths(self, messages: list[str], link: str, visitor: str, contact: str, other: str) -> None:
        """Every page there is, with the ids of what is hostile."""
        call, crm = self._world.call, self._crm
        quarantined = (await call("GET", "/v1/admin/quarantine?limit=200")).json["items"]
        connections = (await call("GET", "/v1/admin/subscriptions?limit=200")).json["items"]
        replay = await self._helpdesk.call("POST", "/v1/replays", {"conversation_id": self._cnv, "number": NUMBER})
        assert replay.status == 202, replay
        talks = (await call("GET", "/v1/admin/conversations?limit=200")).json["items"]
        events: dict[str, str] = {}
        for delivery in self._helpdesk.endpoint.deliveries:
            events.setdefault(delivery.type, delivery.data["event_id"])
        operations = (await call("GET", f"/v1/admin/contacts/{contact}/operations")).json["items"]
        campaign = quote(self._campaign, safe="")
        service = self._helpdesk.id
        text = quote(self._poison.texts["profile name"][:60])
        self._scene.paths = [
            "/console", f"/console/search?q={text}", f"/console/search?q={quote('+4915155555555')}",
            f"/console/search?q={self._cnv}", "/console/conversations", "/console/conversations?show=waiting",
            "/console/conversations?show=held", "/console/conversations?show=all",
            *(f"/console/conversations/{talk['id']}" for talk in talks),
            f"/console/conversations/{self._cnv}?before=45",
            *(f"/console/messages/{message}" for message in [*messages[:2], *messages[-5:], self._masked]),
            f"/console/messages/{messages[1]}/links", f"/console/messages/{messages[0]}/reveal",
            *(f"/console/events/{event}" for event in events.values()),
            "/console/deliveries", "/console/deliveries/parked", f"/console/deliveries?service={service}",
            "/console/dead-letters", "/console/replays", f"/console/replays/{replay.json['id']}",
            "/console/quarantine", *(f"/console/quarantine/{entry['id']}" for entry in quarantined),
            "/console/services",
            *(f"/console/services/{each.id}" for each in (self._helpdesk, crm, self._stage.marketing)),
            "/console/numbers", f"/console/numbers/{NUMBER}", f"/console/numbers/{OTHER}",
            f"/console/numbers/{THIRD}", *(f"/console/subscriptions/{one['id']}" for one in connections),
            "/console/audit",
            "/console/contacts", f"/console/contacts?q={text}", f"/console/contacts/{contact}",
            f"/console/contacts/{other}", f"/console/contacts/{contact}/timeline",
            f"/console/contacts/{contact}/operations", f"/console/contacts/{contact}/consent",
            *(f"/console/contacts/{contact}/operations/{one['id']}" for one in operations[:2]),
            f"/console/visitors/{visitor}", "/console/merge-candidates", f"/console/merge?keep={contact}&merge={other}",
            "/console/campaigns", f"/console/campaigns/{campaign}?service={service}",
            f"/console/links/{link}", f"/console/links/{self._link}", "/console/traffic", "/console/login",
            f"/console/{text}",
        ]  # fmt: skip


__all__ = ["ADMIN", "HostileScene", "open_hostile"]
