"""Browsers of customers: cookies of their own, clicks on tracked links, and what a tracker reports.

Everything goes to the hub's one socket; which host was meant stands in the `Host` header. Links and clicks are made by
SQL where a test is about what comes after them.
"""

import asyncio
import base64
import hashlib
import hmac
import itertools
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hub.domain.ids import new_id
from hub.domain.link_tokens import RECEIPT_COOKIE, VISITOR_COOKIE, digest, new_secret, new_token, visitor_id
from tests.support.wire import ask
from tests.support.world import World

GO, SITE, WWW = "go.shop.example", "shop.example", "https://www.shop.example"
PHONE_AGENT = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.5 Mobile/15E148 Safari/604.1"
)
WEB: dict[str, Any] = {
    "link_base_url": f"https://{GO}",
    "site_domains": (SITE,),
    "tracking_consent": "implied",
}
"""Settings of a hub that tracks `shop.example`: `await open_world(**WEB)`."""
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer as a browser got it: header names in small letters, `cookies` the `Set-Cookie` lines."""

    status: int
    headers: dict[str, str]
    cookies: tuple[str, ...]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)

    @property
    def location(self) -> str:
        """Where a redirect leads."""
        return self.headers["location"]

    @property
    def fragment_key(self) -> str | None:
        """The one-time key that a redirect to a foreign site carries."""
        _, found, key = self.location.partition("_hk=")
        return key if found else None


@dataclass
class Cookie:
    """A cookie as the browser keeps it."""

    value: str
    path: str


@dataclass
class Browser:
    """One browser context: its cookies, its page's session, and the requests it makes.

    `origin`: of the page it is on; `consent`: what the tracker says of it; None in `visitor` means that it has no
    cookie. Cookies are sent only to `host`, and by path; like the tracker, it leaves them out where it refused.
    `is_patient`: it reports again, as the tracker does, where it was too fast.
    """

    world: World
    origin: str = WWW
    host: str = GO
    consent: str = "granted"
    has_gpc: bool = False
    agent: str = PHONE_AGENT
    is_patient: bool = True
    jar: dict[str, Cookie] = field(default_factory=dict)
    session: str = field(default_factory=new_secret)

    @property
    def visitor(self) -> UUID | None:
        """Which visitor its cookie makes it."""
        return visitor_id(self.jar[VISITOR_COOKIE].value) if VISITOR_COOKIE in self.jar else None

    @property
    def receipts(self) -> list[str]:
        """The names of the receipts it has."""
        return [name for name in self.jar if name.startswith(RECEIPT_COOKIE)]

    def become(self, secret: str | None = None) -> UUID:
        """Have a visitor cookie, without any request; gives the visitor."""
        self.jar[VISITOR_COOKIE] = Cookie(secret or new_secret(), "/")
        assert self.visitor
        return self.visitor

    def give_receipt(self, secret: str) -> None:
        """Have a click's receipt, without any request."""
        self.jar[f"{RECEIPT_COOKIE}{next(_numbers)}"] = Cookie(secret, "/collect")

    def twin(self) -> "Browser":
        """A second tab that is loaded at the same time: the same cookies until now, answers of its own."""
        return replace(self, jar=dict(self.jar))

    def restart(self) -> None:
        """A new session of the tracker, as after half an hour."""
        self.session = new_secret()

    # Requests --------------------------------------------------------------------------------------------------------

    async def click(self, token: str, **headers: str) -> Reply:
        """Follow a tracked link, as a person who taps it; the redirect is not followed."""
        given = {"Sec-Fetch-Dest": "document", "Sec-Fetch-Mode": "navigate", **headers}
        return await self.request("GET", f"/{token}", given)

    async def collect(self, *events: dict[str, Any], key: str | None = None, **headers: str) -> Reply:
        """Report these events, as the tracker does."""
        body: dict[str, Any] = {"session": self.session, "consent": self.consent, "events": list(events)}
        if key is not None:
            body["key"] = key
        return await self.report(json.dumps(body).encode(), **headers)

    async def report(self, body: bytes, **headers: str) -> Reply:
        """Post these bytes to the collector."""
        given = {"Content-Type": "text/plain;charset=UTF-8", "Origin": self.origin, **headers}
        answer = await self.request("POST", "/collect", given, body)
        while self.is_patient and answer.status == 429:
            await asyncio.sleep(0.1)
            answer = await self.request("POST", "/collect", given, body)
        return answer

    async def load(self, path: str = "/", *, age: int = 0, key: str | None = None, **more: Any) -> Reply:
        """Load a page of the site; `age`: ms since its tracker started."""
        return await self.collect(page(self.origin + path, age=age, **more), key=key)

    async def identify(self, **said: Any) -> Reply:
        """Say who one is, as `hub.identify`."""
        return await self.collect({"type": "identify", "age": 0, **said})

    async def handle(self) -> str:
        """A visitor handle, as `hub.handle`."""
        answer = await self.collect({"type": "handle", "age": 0})
        assert answer.status == 200, answer
        return str(answer.json["handle"])

    async def request(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Reply:
        """One request to the hub as `host`, with the cookies that belong to it; keeps those it answers with."""
        given = {"Host": self.host, "User-Agent": self.agent, **headers}
        if self.has_gpc:
            given["Sec-GPC"] = "1"
        if cookies := self._cookies(path):
            given.setdefault("Cookie", cookies)
        url = self.world.hub.url + path
        async with self.world.session.request(
            method, url, data=body or None, headers=given, allow_redirects=False
        ) as answer:
            found = {name.lower(): value for name, value in answer.headers.items()}
            made = tuple(answer.headers.getall("Set-Cookie", []))
            reply = Reply(answer.status, found, made, await answer.read())
        for cookie in made:
            self._keep(cookie)
        return reply

    def _cookies(self, path: str) -> str:
        if path == "/collect" and (self.consent == "denied" or self.has_gpc):
            return ""
        held = ((name, cookie) for name, cookie in self.jar.items() if _is_under(path, cookie.path))
        return "; ".join(f"{name}={cookie.value}" for name, cookie in held)

    def _keep(self, line: str) -> None:
        first, *rest = [part.strip() for part in line.split(";")]
        name, _, value = first.partition("=")
        attributes = {key.lower(): value for key, _, value in (part.partition("=") for part in rest)}
        if attributes.get("max-age") == "0":
            self.jar.pop(name, None)
        else:
            self.jar[name] = Cookie(value, attributes.get("path", "/"))


def _is_under(path: str, cookie_path: str) -> bool:
    return path == cookie_path or path.startswith(cookie_path.rstrip("/") + "/")


def page(url: str = f"{WWW}/", *, kind: str = "load", age: int = 0, **more: Any) -> dict[str, Any]:
    """A `page` event."""
    return {"type": "page", "kind": kind, "url": url, "age": age, **more}


# Made by SQL --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PlantedLink:
    """A tracked link that no message was sent with."""

    id: UUID
    token: str
    contact_id: UUID | None


async def plant_contact(database_url: str, phone: str | None = None) -> UUID:
    """A contact, who has written from this number."""
    contact = new_id()
    await ask(database_url, "insert into contact (id) values ($1)", contact)
    if phone:
        sql = """
        insert into contact_address (contact_id, type, value, match_key, is_proved)
        values ($1, 'phone', $2, $2, true)"""
        await ask(database_url, sql, contact, phone)
    return contact


async def plant_link(
    database_url: str, contact: UUID | None, *, target: str = f"{WWW}/", to: str | None = None,
    message: UUID | None = None, ago: timedelta = timedelta(minutes=1),
) -> PlantedLink:  # fmt: skip
    """A tracked link, made so long ago, in a message of its own unless told which."""
    link = PlantedLink(new_id(), new_token(is_personal=contact is not None), contact)
    sql = """
    insert into tracked_link (id, token_hash, target, message_id, contact_id, destination_type, destination_value,
                              created_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8)"""
    kind = to and ("email" if "@" in to else "phone")
    at = datetime.now(UTC) - ago
    await ask(database_url, sql, link.id, digest(link.token), target, message or new_id(), contact, kind, to, at)
    return link


async def plant_click(
    database_url: str, link: PlantedLink, browser: Browser | None = None, *, receipt: str | None = None,
    key: str | None = None, ago: timedelta = timedelta(seconds=1), counts: bool = True, site: str | None = SITE,
    opted_out: bool = False,
) -> UUID:  # fmt: skip
    """A click of a person, as the redirect stores it. The browser gets a cookie and the click's receipt; none: only
    the click is stored, with this receipt or key. Gives the click's id.
    """
    if browser is not None:
        if browser.visitor is None:
            browser.become()
        if key is None:
            receipt = receipt or new_secret()
            browser.give_receipt(receipt)
    click = new_id()
    sql = """
    insert into click (id, at, link_id, kind, reason, counts, visitor_id, receipt_hash, key_hash, site, opted_out,
                       user_agent)
    values ($1, $2, $3, $4, $4, $5, $6, $7, $8, $9, $10, $11)"""
    await ask(
        database_url, sql, click, datetime.now(UTC) - ago, link.id, "person" if counts else "crawler", counts,
        browser and browser.visitor, receipt and digest(receipt), key and digest(key), site, opted_out, PHONE_AGENT,
    )  # fmt: skip
    return click


# Looked up by SQL ---------------------------------------------------------------------------------------------------


async def who(database_url: str, visitor: UUID | None, *, ago: timedelta = timedelta(0)) -> UUID | None:
    """Whose a visit of this visitor is, so long ago: the contact it is bound to."""
    sql = """
    select contact_id from visitor_binding
    where visitor_id = $1 and period @> $2::timestamptz and retracted_at is null"""
    found: UUID | None = await ask(database_url, sql, visitor, datetime.now(UTC) - ago)
    return found


async def outcomes(database_url: str, link: PlantedLink) -> list[str]:
    """What the landings on a link came to, the oldest first."""
    sql = "select array_agg(outcome order by landed_at, visitor_id) from landing where link_id = $1"
    return list(await ask(database_url, sql, link.id) or ())


def signed(
    secret: str, handle: str, *, email: str = "", phone: str = "", consents: Sequence[str] = (),
    time: int | None = None, nonce: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The fields of `hub.identify` as the backend of a site signs them."""
    at = int(datetime.now(UTC).timestamp()) if time is None else time
    nonce = secrets.token_urlsafe(12) if nonce is None else nonce
    text = "\n".join([handle, str(at), nonce, email, phone, ",".join(sorted(consents))])
    signature = base64.urlsafe_b64encode(hmac.digest(secret.encode(), text.encode(), hashlib.sha256)).rstrip(b"=")
    made = {"handle": handle, "time": at, "nonce": nonce, "signature": signature.decode()}
    return made | {k: v for k, v in (("email", email), ("phone", phone), ("consents", list(consents))) if v}


async def together(*steps: Any) -> list[Any]:
    """Do these at once; gives what they gave."""
    return list(await asyncio.gather(*steps))
