"""Contacts, visitors and visits put into the database as the hub would have, where a test is about reading them."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from hub.domain.addresses import Address
from hub.domain.ids import new_id, parse_id, public_id
from tests.support.world import Answer, Service, World

SCOPES = ["read", "reply", "automate", "profiles"]
NOW = datetime.now(UTC).replace(microsecond=0)
STANDINGS = {"proved": (True, False), "declared": (False, True), "unconfirmed": (False, False)}


def ago(**span: float) -> datetime:
    """A time before the tests began."""
    return NOW - timedelta(**span)


@dataclass
class People:
    """Writes into one database."""

    conn: "asyncpg.Connection[asyncpg.Record]"

    async def contact(self, name: str | None = None) -> str:
        """A contact without addresses."""
        contact_id = new_id()
        await self.conn.execute("insert into contact (id, name) values ($1, $2)", contact_id, name)
        return public_id("con", contact_id)

    async def has(self, contact: str, address: Address, standing: str = "proved") -> None:
        """A contact gets an address."""
        await self.conn.execute(
            "insert into contact_address (contact_id, type, value, match_key, is_proved, is_declared)"
            " values ($1, $2, $3, $4, $5, $6)",
            con(contact), address.type, address.value, address.match_key, *STANDINGS[standing],
        )  # fmt: skip

    async def known_to(self, contact: str, service: Service, external_id: str | None = None, **traits: str) -> None:
        """A service has identified a contact, and said something of it; a trait's value is JSON."""
        await self.conn.execute(
            "insert into contact_knower (contact_id, service_id) values ($1, $2) on conflict do nothing",
            con(contact), svc(service),
        )  # fmt: skip
        if external_id:
            await self.conn.execute(
                "insert into contact_identity (service_id, external_id, contact_id) values ($1, $2, $3)",
                svc(service), external_id, con(contact),
            )  # fmt: skip
        for name, value in traits.items():
            await self.conn.execute(
                "insert into contact_trait (contact_id, service_id, name, value) values ($1, $2, $3, $4)",
                con(contact), svc(service), name, value,
            )  # fmt: skip

    async def merge(self, absorbed: str, kept: str | None) -> None:
        """One goes on as the other, or (None) as itself again."""
        into = con(kept) if kept else None
        await self.conn.execute("update contact set merged_into = $2 where id = $1", con(absorbed), into)

    async def visitor(self) -> str:
        """A browser's cookie."""
        visitor_id = new_id()
        await self.conn.execute(
            "insert into visitor (id, created_at, seen_at, is_confirmed) values ($1, $2, $2, true)", visitor_id, NOW
        )
        return public_id("vis", visitor_id)

    async def bind(
        self, visitor: str, contact: str, since: datetime, until: datetime | None = None, *,
        link: UUID | None = None, trust: int = 1, is_retracted: bool = False,
    ) -> None:  # fmt: skip
        """The visitor was the contact meanwhile."""
        await self.conn.execute(
            "insert into visitor_binding (id, visitor_id, contact_id, period, trust, bound_at, link_id, retracted_at)"
            " values ($1, $2, $3, tstzrange($4, $5), $6, $7, $8, case when $9 then now() end)",
            new_id(), vis(visitor), con(contact), since, until, trust, NOW, link, is_retracted,
        )  # fmt: skip

    async def visit(self, visitor: str | None, at: datetime, url: str, kind: str = "page") -> None:
        """A visitor looks at a page."""
        await self.conn.execute(
            "insert into web_event (id, at, received_at, type, visitor_id, session, site, url, title, referrer)"
            " values ($1, $2, $2, $3, $4, 'session-1', 'shop.example', $5, 'A page', null)",
            new_id(), at, kind, vis(visitor) if visitor else None, url,
        )  # fmt: skip

    async def link(
        self, contact: str | None, target: str, service: Service | None = None, *, message: str | None = None,
        channel: str | None = None,
    ) -> UUID:  # fmt: skip
        """A tracked link that was sent."""
        link_id = new_id()
        await self.conn.execute(
            "insert into tracked_link (id, token_hash, target, service_id, channel_id, message_id, contact_id,"
            " created_at) values ($1, $2, $3, $4, $5, $6, $7, $8)",
            link_id, link_id.bytes, target, svc(service) if service else None,
            parse_id("chn", channel) if channel else None, parse_id("msg", message) if message else None,
            con(contact) if contact else None, ago(hours=3),
        )  # fmt: skip
        return link_id

    async def click(self, link: UUID, visitor: str, at: datetime, message: str | None = None) -> None:
        """A visitor clicks and lands."""
        click_id = new_id()
        await self.conn.execute(
            "insert into click (id, at, link_id, kind, reason, counts, visitor_id, user_agent)"
            " values ($1, $2, $3, 'person', 'none', true, $4, 'Mozilla/5.0 of the customer')",
            click_id, at, link, vis(visitor),
        )  # fmt: skip
        await self.conn.execute(
            "insert into landing (click_id, visitor_id, link_id, message_id, contact_id, session, click_at, landed_at,"
            " outcome, reason) values ($1, $2, $3, $4, null, 'session-1', $5, $5, 'bound', 'first_claimant')",
            click_id, vis(visitor), link, parse_id("msg", message) if message else None, at,
        )  # fmt: skip

    async def text_of_everything(self) -> dict[str, str]:
        """Every row of every table as text, to be searched for what must not be there."""
        tables = await self.conn.fetch(
            "select c.oid::regclass::text as name from pg_class c where c.relnamespace = 'public'::regnamespace"
            " and c.relkind in ('r', 'p') and not c.relispartition"
        )
        found = {}
        for row in tables:
            name = row["name"]
            rows = await self.conn.fetch(f"select t::text as row from {name} t")
            found[name] = "\n".join(one["row"] for one in rows)
        raw = await self.conn.fetch("select raw from quarantine")
        found["quarantine.raw"] = "\n".join(bytes(one["raw"]).decode("utf-8", "replace") for one in raw)
        return found


def con(contact: str) -> UUID:
    """A contact's id inside."""
    return parse_id("con", contact)


def vis(visitor: str) -> UUID:
    """A visitor's."""
    return parse_id("vis", visitor)


def svc(service: Service) -> UUID:
    """A service's."""
    return parse_id("svc", service.id)


async def get(who: Service | World, path: str) -> Any:
    """What is answered, where it is."""
    answer: Answer = await who.call("GET", path)
    assert answer.status == 200, answer
    return answer.json
