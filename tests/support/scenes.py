"""Scenes of tracked links: a shop that writes to its customers, and the browsers they tap the links in.

Everything goes over HTTP, but for time, which no request moves.
"""

import itertools
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from providers.simulator import Customer, Person
from tests.support.talk import ends, heard, pages
from tests.support.web import GO, WEB, WWW, Browser, Reply, signed
from tests.support.web import page as page_event
from tests.support.wire import connected
from tests.support.world import NUMBER, Answer, Service, World

SECRET = "a-secret-of-the-shop"
SETTINGS: dict[str, Any] = WEB | {
    "site_secrets": (SECRET,),
    "phone_region": "DE",
    "trusted_proxies": ("127.0.0.0/8",),
    "agent_per_minute": 0,
    "service_per_minute": 0,
    "new_conversations_per_hour": 0,
    "sms_rate": 500,
    "whatsapp_rate": 500,
}
PROFILES = ["read", "reply", "automate", "profiles"]
FOREIGN = "lnk.example"
_LINK = re.compile(rf"https://(?:{re.escape(GO)}|{re.escape(FOREIGN)})/[0-9A-Za-z]+")
_counter = itertools.count(1)


def phone() -> str:
    """A number that nobody has."""
    return f"+491511{1_000_000 + next(_counter)}"


def email(name: str = "mia") -> str:
    """An address that nobody has."""
    return f"{name}{next(_counter)}@example.com"


def page(name: str = "spring") -> str:
    """A page of the shop that no other test looks at."""
    return f"{WWW}/{name}/{next(_counter)}"


def links_in(text: str) -> list[str]:
    """The tracked links of what a customer got."""
    return _LINK.findall(text)


def token_of(link: str) -> str:
    """The token of a tracked link."""
    return link.rsplit("/", 1)[1]


@dataclass
class Device(Browser):
    """A browser at a network address of its own, that taps links and walks through the shop."""

    consent: str = "unset"
    ip: str = field(default_factory=lambda: f"198.51.{next(_counter) % 250}.7")

    async def taps(self, link: str, **headers: str) -> Reply:
        """Open a tracked link, without going where it leads."""
        return await self.click(token_of(link), **headers)

    async def views(self, url: str, key: str | None = None, **more: Any) -> str:
        """Load a page of the shop; gives its URL."""
        answer = await self.collect(page_event(url, title=f"Title of {url}", referrer="", **more), key=key)
        assert answer.status == 204, answer
        return url

    async def opens(self, link: str) -> str:
        """Tap a link and arrive where it leads; gives that URL."""
        answer = await self.taps(link)
        assert answer.status == 302, answer
        return await self.views(answer.location)

    async def request(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Reply:
        """The same from its address."""
        return await super().request(method, path, {"X-Forwarded-For": self.ip, **headers}, body)

    def forgets(self) -> None:
        """Clear the cookies."""
        self.jar.clear()
        self.restart()


@dataclass
class Sent:
    """A message that the customer has: its ids, and what the provider was given."""

    id: str
    conversation: str
    body: str

    @property
    def links(self) -> list[str]:
        """Its tracked links, in order."""
        return links_in(self.body)

    @property
    def link(self) -> str:
        """Its one tracked link."""
        (only,) = self.links
        return only

    @property
    def token(self) -> str:
        """The token of that link."""
        return token_of(self.link)


@dataclass
class Shop:
    """The business: `crm`, the parent, writes to customers; `helpdesk` may know of profiles too, `books` may not."""

    world: World
    database_url: str
    crm: Service
    helpdesk: Service
    books: Service

    def device(self, **more: Any) -> Device:
        """A browser that was never here."""
        return Device(self.world, **more)

    async def visitor(self) -> Device:
        """A browser that has seen a page of the shop, and keeps its cookie."""
        device = self.device()
        await device.views(page("before"))
        return device

    def customer(self, number: str, medium: str = "whatsapp") -> Customer:
        """Somebody with this number."""
        how = {"provider": "twilio", "medium": "sms"} if medium == "sms" else {}
        return self.world.customer(Person(number), **how)

    # Messages --------------------------------------------------------------------------------------------------------

    async def sms(self, to: str, text: str, **more: Any) -> Sent:
        """Write an SMS to somebody, who may be new, and have it arrive."""
        body = _written(text) | {"to": to, "medium": "sms", "from": NUMBER} | more
        return await self._arrives(self.customer(to, "sms"), await self.crm.call("POST", "/v1/messages?wait=10", body))

    async def whatsapp(self, to: str | Person, text: str | None, **more: Any) -> Sent:
        """Answer somebody on WhatsApp, who writes first."""
        customer = self.world.customer(to if isinstance(to, Person) else Person(to))
        path = f"/v1/conversations/{await self.hears(customer)}/messages?wait=10"
        return await self._arrives(customer, await self.crm.call("POST", path, _written(text) | more))

    async def writes(self, medium: str, to: str, text: str) -> Sent:
        """Write to somebody over this medium."""
        return await (self.sms if medium == "sms" else self.whatsapp)(to, text)

    async def campaign(self, to: str) -> Answer:
        """Ask for an SMS that needs consent."""
        body = _written("Buy!") | {"to": to, "medium": "sms", "from": NUMBER, "origin": "campaign", "campaign": "x"}
        del body["agent"]
        return await self.crm.call("POST", "/v1/messages", body)

    async def hears(self, customer: Customer, said: str | None = None) -> str:
        """The customer writes; gives the conversation."""
        said = said or f"Hello {next(_counter)}"
        await customer.says(said)
        await self.crm.endpoint.wait(lambda me: any(heard(d.data, said) for d in me.of("message.received")))
        found = [d.data for d in self.crm.endpoint.of("message.received") if heard(d.data, said)]
        return str(found[-1]["conversation"]["id"])

    async def _arrives(self, customer: Customer, answer: Answer) -> Sent:
        assert answer.status == 202, answer
        message = answer.json["message"]
        assert message["provider_id"], answer
        if self.world.simulator.status_plan.steps:
            await ends(self.crm, message["id"], "delivered", "read")
        got = [one for one in customer.received if one.provider_id == message["provider_id"]]
        assert len(got) == 1
        view = await self.crm.call("GET", f"/v1/messages/{message['id']}")
        return Sent(message["id"], view.json["conversation_id"], json.dumps(dict(got[0].body)))

    async def email_link(self, to: str | None) -> dict[str, Any]:
        """A tracked link for an email that another tool sends, or for nobody in particular."""
        wanted = {"url": page("mail")} | ({"address": to} if to else {})
        answer = await self.crm.call("POST", "/v1/links", wanted)
        assert answer.status == 201, answer
        return dict(answer.json)

    # Profiles --------------------------------------------------------------------------------------------------------

    async def declares(self, **said: Any) -> dict[str, Any]:
        """The backend says who a customer is; gives the contact."""
        answer = await self.crm.call("POST", "/v1/identify", said)
        assert answer.status == 200, answer
        return dict(answer.json["contact"])

    async def knows(self, number: str, mail: str) -> Device:
        """A customer who taps a link in an SMS and then registers with an email address; gives their browser."""
        device = self.device()
        await device.opens((await self.sms(number, f"Hello: {page('hello')}")).link)
        contact = await self.declares(email=mail, handle=await device.handle())
        assert contact["id"] == (await self.contact(number))["id"]
        return device

    async def signed(self, device: Device, **said: Any) -> dict[str, Any]:
        """What a page passes to `hub.identify` with its backend's signature."""
        return signed(SECRET, await device.handle(), **said)

    async def agrees(self, address: str, status: str, medium: str = "tracking") -> None:
        """The customer told us so."""
        answer = await self.crm.call("PUT", f"/v1/consents/{medium}/{quote(address)}", {"status": status})
        assert answer.status == 200, answer

    async def consent(self, medium: str, address: str) -> str:
        """What holds for an address."""
        answer = await self.crm.call("GET", f"/v1/consents/{medium}/{quote(address)}")
        assert answer.status == 200, answer
        return str(answer.json["status"])

    async def contacts(self, address: str, *, operator: bool = False) -> list[dict[str, Any]]:
        """Everybody with an address, whom the CRM, or the operator, may know of."""
        answer = await self._ask(operator)(f"/v1/{'admin/' * operator}contacts?address={quote(address)}")
        assert answer.status == 200, answer
        return list(answer.json["items"])

    async def contact(self, address: str, *, operator: bool = False) -> dict[str, Any]:
        """The one contact with an address."""
        found = await self.contacts(address, operator=operator)
        assert len(found) == 1, found
        return found[0]

    async def addresses(self, address: str, *, operator: bool = False) -> list[str]:
        """All addresses of the one contact with this one."""
        return [one["value"] for one in (await self.contact(address, operator=operator))["addresses"]]

    async def visits(self, address: str, *, operator: bool = False) -> list[str]:
        """The pages on a contact's timeline, or for the operator in their export, the oldest first."""
        contact = (await self.contact(address, operator=operator))["id"]
        if operator:
            answer = await self.world.call("GET", f"/v1/admin/contacts/{contact}/export")
            assert answer.status == 200, answer
            found = sorted(answer.json["visits"], key=lambda item: str(item["at"]), reverse=True)
        else:
            found = await pages(self._ask(False), f"/v1/contacts/{contact}/timeline?limit=200", "before")
        return [item["url"] for item in reversed(found) if item["type"] == "web.page"]

    async def candidates(self, contact: str) -> list[set[str]]:
        """Who may be the same person as this contact."""
        found = await pages(self._ask(True), "/v1/admin/merge-candidates?limit=200")
        pairs = [{side["id"] for side in one["contacts"]} for one in found]
        return [pair for pair in pairs if contact in pair]

    def _ask(self, operator: bool) -> Callable[[str], Awaitable[Answer]]:
        return lambda path: self.world.call("GET", path) if operator else self.crm.call("GET", path)

    # Operations ------------------------------------------------------------------------------------------------------

    async def operations(self, contact: str) -> list[str]:
        """The ids of what was done to a contact, the last first."""
        found = await pages(self._ask(True), f"/v1/admin/contacts/{contact}/operations?limit=200")
        return [one["id"] for one in found if one["undone_at"] is None]

    async def done_to(self, *people: str) -> list[str]:
        """The same of everybody with these addresses, without order."""
        contacts = {found["id"] for one in people for found in await self.contacts(one, operator=True)}
        return sorted({one for contact in contacts for one in await self.operations(contact)})

    async def undo(self, operation: str) -> Answer:
        """Take an operation back."""
        return await self.world.call("POST", f"/v1/admin/identity-operations/{operation}/undo")

    async def state(self, *people: str) -> dict[str, Any]:
        """All that the API shows of these addresses."""
        return {one: await self._state(one) for one in people}

    async def _state(self, address: str) -> dict[str, Any]:
        found = await self.contacts(address, operator=True)
        media = ["sms", "whatsapp", "tracking"] if address.startswith("+") else ["tracking"]
        return {
            "contacts": found,
            "visits": await self.visits(address, operator=True) if found else [],
            "consents": [await self.consent(medium, address) for medium in media],
            "candidates": [sorted(pair) for one in found for pair in await self.candidates(one["id"])],
        }

    # Events and reports ----------------------------------------------------------------------------------------------

    async def clicks(self, sent: Sent, by: Service | None = None) -> dict[str, int]:
        """Clicks on a message's links by verdict."""
        answer = await (by or self.crm).call("GET", f"/v1/messages/{sent.id}/links")
        assert answer.status == 200, answer
        totals: dict[str, int] = {}
        for link in answer.json["items"]:
            for verdict in link["clicks"]["verdicts"]:
                totals[verdict["kind"]] = totals.get(verdict["kind"], 0) + verdict["clicks"]
        return totals

    async def hears_of(self, kind: str, address: str, by: Service | None = None) -> dict[str, Any]:
        """Wait for an event about the contact with this address."""
        service, contact = by or self.crm, (await self.contact(address))["id"]

        def found() -> list[dict[str, Any]]:
            return [d.data for d in service.endpoint.of(kind) if _is_about(d.data, contact)]

        await service.endpoint.wait(lambda _: bool(found()))
        return found()[-1]

    async def told(self, kind: str, address: str) -> list[dict[str, Any]]:
        """All events of this type about the contact with this address that are in the CRM's feed now."""
        contact = (await self.contact(address))["id"]
        return [data for data in await self.feed(kind) if _is_about(data, contact)]

    async def feed(self, kind: str) -> list[dict[str, Any]]:
        """All events of this type in the CRM's feed."""
        found, after = [], ""
        while True:
            answer = await self.crm.call("GET", f"/v1/events?limit=200{after}")
            assert answer.status == 200, answer
            found += [item["data"] for item in answer.json["items"] if item["type"] == kind]
            if not answer.json["has_more"]:
                return found
            after = f"&after={answer.json['next']}"

    # Time, and what an erasure left ----------------------------------------------------------------------------------

    async def age_link(self, link: str, days: float) -> None:
        """Make a link so old."""
        sql = """
        update tracked_link set created_at = created_at - $2::float * interval '1 day'
        where token_hash = sha256($1::text::bytea) returning 1"""
        assert await self.rows(sql, token_of(link), days)

    async def age_visit(self, url: str, days: float) -> None:
        """Make the view of a page so old, in a partition of its day."""
        sql = "select (at - $2::float * interval '1 day')::date as day from web_event where url = $1"
        (row,) = await self.rows(sql, url, days)
        await self.rows(
            f"create table if not exists web_event_{row['day']:%Y%m%d} partition of web_event"
            f" for values from ('{row['day']}') to ('{row['day'] + timedelta(days=1)}')"
        )
        await self.rows("update web_event set at = at - $2::float * interval '1 day' where url = $1", url, days)

    async def found(self, *words: str) -> dict[str, list[str]]:
        """The tables that hold one of these words anywhere, with what was found in them."""
        sql = """
        select table_name, array_agg(quote_ident(column_name)) as columns,
               array_agg(data_type = 'bytea') as is_bytes
        from information_schema.columns
        where table_schema = 'public' and data_type in ('text', 'bytea', 'ARRAY', 'json', 'jsonb', 'cidr', 'inet')
        group by table_name"""
        left = {}
        for table in await self.rows(sql):
            held = zip(table["columns"], table["is_bytes"], strict=True)
            read = [f"encode({column}, 'escape')" if is_bytes else f"{column}::text" for column, is_bytes in held]
            row = f"concat_ws(' ', {', '.join(read)})"
            like = [f"%{word}%" for word in words]
            rows = await self.rows(f"select {row} as held from {table['table_name']} where {row} ilike any($1)", like)
            if rows:
                left[table["table_name"]] = [one["held"] for one in rows]
        return left

    async def age_click(self, sent: Sent, minutes: float) -> None:
        """Make the clicks on a message's link so old."""
        sql = """
        update click set at = at - $2::float * interval '1 minute'
        where link_id = (select id from tracked_link where token_hash = sha256($1::text::bytea)) returning 1"""
        assert await self.rows(sql, sent.token, minutes)

    async def rows(self, sql: str, *args: Any) -> list[Any]:
        """Rows of the database."""
        async with connected(self.database_url) as conn:
            return list(await conn.fetch(sql, *args))


def _written(text: str | None) -> dict[str, Any]:
    agent = {"id": f"agent-{next(_counter)}", "name": "Ana"}
    return {"origin": "agent", "agent": agent, "type": "text"} | ({"text": text} if text else {})


def _is_about(data: dict[str, Any], contact: str) -> bool:
    return bool(data.get("contact", {}).get("id") == contact)
