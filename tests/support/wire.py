"""Webhooks byte by byte: bodies and headers that no SDK would send, and looks into the hub's database."""

import asyncio
import hashlib
import io
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import aiohttp
import asyncpg

from hub.app import running
from providers.simulator import Number, Simulator
from providers.simulator.signing import sign_meta, sign_twilio
from tests.support.world import ADMIN, NUMBER, PHONE_NUMBER_ID, World, settings_for

PUBLIC_URL = "https://hub.example.com"
META = "/webhooks/meta"
TWILIO = "/webhooks/twilio"
FORM = "application/x-www-form-urlencoded"
_counter = itertools.count(1)


def unique(prefix: str = "wamid.t") -> str:
    """An id that no other test used."""
    return f"{prefix}{next(_counter):08d}"


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes


async def raw_http(url: str, method: str, path: str, headers: Sequence[tuple[str, bytes]], body: bytes = b"") -> Reply:
    """One request over a bare socket: header values may be any bytes."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        sent = {name.lower() for name, _ in headers}
        head = [f"{method} {path} HTTP/1.1".encode("utf-8", "surrogateescape"), b"Host: hub", b"Connection: close"]
        head += [name.encode() + b": " + value for name, value in headers]
        if not sent & {"content-length", "transfer-encoding"}:
            head.append(b"Content-Length: %d" % len(body))
        writer.write(b"\r\n".join(head) + b"\r\n\r\n" + body)
        async with asyncio.timeout(20):
            answer = await reader.read()
    finally:
        writer.close()
    return read_reply(answer)


def read_reply(answer: bytes) -> Reply:
    """Part an HTTP answer that was closed by the server."""
    head, _, content = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Reply(int(first.split()[1]), fields, content)


@dataclass
class Wire:
    """Posts to one hub with right signatures, unless told otherwise."""

    world: World

    async def post(self, path: str, body: bytes | AsyncIterator[bytes], headers: dict[str, str]) -> Reply:
        """POST with just these headers."""
        session, url = self.world.session, self.world.hub.url + path
        skipped = () if "Content-Type" in headers else ("Content-Type",)
        data = io.BytesIO(body) if isinstance(body, bytes) else body
        async with session.post(url, data=data, headers=headers, skip_auto_headers=skipped) as answer:
            return Reply(answer.status, {k.lower(): v for k, v in answer.headers.items()}, await answer.read())

    def meta_signature(self, body: bytes) -> str:
        """What Meta would sign this body with."""
        return sign_meta(body, self.world.simulator.meta_app_secrets[0])

    async def meta(self, body: Any, content_type: str | None = "application/json", path: str = META) -> Reply:
        """A signed body, given as bytes or as a document."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"X-Hub-Signature-256": self.meta_signature(raw)}
        if content_type is not None:
            headers["Content-Type"] = content_type
        return await self.post(path, raw, headers)

    def twilio_signature(self, form: Sequence[tuple[str, str]], path: str = TWILIO) -> str:
        """What Twilio would sign this form with."""
        return sign_twilio(PUBLIC_URL + path, form, self.world.simulator.twilio_auth_token)

    async def twilio(
        self, form: Sequence[tuple[str, str]], content_type: str | None = FORM, path: str = TWILIO
    ) -> Reply:
        """A signed form."""
        headers = {"X-Twilio-Signature": self.twilio_signature(form, path)}
        if content_type is not None:
            headers["Content-Type"] = content_type
        return await self.post(path, urlencode(form).encode(), headers)

    async def twilio_json(self, body: bytes, content_type: str = "application/json") -> Reply:
        """A signed JSON body: its hash stands in the query, which is signed."""
        path = f"{TWILIO}?bodySHA256={hashlib.sha256(body).hexdigest()}"
        headers = {"X-Twilio-Signature": self.twilio_signature([], path), "Content-Type": content_type}
        return await self.post(path, body, headers)

    async def quarantine(self, **query: str) -> list[dict[str, Any]]:
        """Every quarantine entry, all pages."""
        found: list[dict[str, Any]] = []
        after = "0"
        while after:
            answer = await self.world.call("GET", f"/v1/admin/quarantine?{urlencode({**query, 'after': after})}")
            assert answer.status == 200, answer
            found += answer.json["items"]
            after = answer.json["next"] or ""
        return found

    async def replay(self, entry: dict[str, Any]) -> Any:
        """Ask for an entry to be taken in after all."""
        return await self.world.call("POST", f"/v1/admin/quarantine/{entry['id']}/replay", key=ADMIN)


def text(body: str, sender: str = "4915112345678", **more: Any) -> dict[str, Any]:
    """A text message as Meta puts it, written just now."""
    at = str(int(time.time()))
    message = {"from": sender, "id": unique(), "timestamp": at, "type": "text", "text": {"body": body}}
    return message | more


def value(
    items: Sequence[Any], *, name: str = "messages", number_id: str | None = PHONE_NUMBER_ID, **more: Any
) -> dict[str, Any]:
    """A change's value with these messages (or statuses, or echoes)."""
    made: dict[str, Any] = {"messaging_product": "whatsapp", name: list(items)}
    if number_id is not None:
        made["metadata"] = {"display_phone_number": NUMBER[1:], "phone_number_id": number_id}
    return made | more


def envelope(*values: dict[str, Any], field: str = "messages") -> dict[str, Any]:
    """A webhook with one change for each value."""
    changes = [{"field": field, "value": part} for part in values]
    return {"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": changes}]}


def sms(body: str, sender: str = "+4915112345678", to: str = NUMBER, **more: str) -> list[tuple[str, str]]:
    """A message as Twilio puts it; addresses with `whatsapp:` make it one of WhatsApp."""
    fields = {"MessageSid": unique("SM"), "AccountSid": "AC1", "From": sender, "To": to, "Body": body, "NumMedia": "0"}
    return list((fields | more).items())


@asynccontextmanager
async def connected(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection of the test's own."""
    conn = await asyncpg.connect(database_url)
    try:
        yield conn
    finally:
        await conn.close()


@asynccontextmanager
async def reopened(database_url: str, data_dir: Path, **more: Any) -> AsyncIterator[World]:
    """Another hub over what an earlier one left: nothing is registered anew."""
    numbers = [Number(NUMBER, PHONE_NUMBER_ID)]
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(Simulator(numbers=numbers, public_url=PUBLIC_URL))
        hub = await stack.enter_async_context(running(settings_for(simulator, database_url, data_dir, **more)))
        simulator.hub_url = hub.url
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield World(hub, simulator, session)


LOCKS_HERE = (
    "(select * from pg_locks where database = (select oid from pg_database where datname = current_database())) l"
)
"""The locks of one database, for queries: hubs of other tests may be at the same server."""


async def ask(database_url: str, sql: str, *args: Any) -> Any:
    """One value from the database."""
    async with connected(database_url) as conn:
        return await conn.fetchval(sql, *args)


async def until(is_so: Callable[[], Any], seconds: float = 10) -> Any:
    """Wait for a condition (a function, sync or async) that nothing announces; gives what it gave."""
    async with asyncio.timeout(seconds):
        while True:
            found = is_so()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.02)
