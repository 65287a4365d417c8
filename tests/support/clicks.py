"""Tracked links and clicks put into the database as they are stored, with nobody clicking."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from hub.domain.ids import new_id, parse_id, public_id
from tests.support.world import Service

_MESSAGE = "select number_id, channel_id, conversation_id, medium, created_at from message where id = $1"
_CONTACT = "select contact_id from conversation where id = $1"


@dataclass
class Clicks:
    """Writes links and clicks over a connection of its own."""

    conn: "asyncpg.Connection[asyncpg.Record]"

    async def insert(self, table: str, **values: Any) -> None:
        """One row."""
        places = ", ".join(f"${place}" for place in range(1, len(values) + 1))
        await self.conn.execute(f"insert into {table} ({', '.join(values)}) values ({places})", *values.values())

    async def link(self, author: Service | None, message: str | None = None, **values: Any) -> str:
        """A link of a service, in a message for its customer or by itself; gives its id."""
        made: dict[str, Any] = {
            "id": new_id(),
            "token_hash": uuid4().bytes,
            "target": "https://shop.example/§sale",
            "service_id": parse_id("svc", author.id) if author else None,
            "created_at": datetime.now(UTC),
        }
        if message is not None:
            made["message_id"] = parse_id("msg", message)
            row = await self.conn.fetchrow(_MESSAGE, made["message_id"])
            assert row is not None
            made |= {**row, "place": "§body", "contact_id": await self.contact_of(row["conversation_id"])}
        await self.insert("tracked_link", **(made | values))
        return public_id("lnk", (made | values)["id"])

    async def contact_of(self, conversation_id: UUID) -> UUID:
        """Whom a conversation is with."""
        return UUID(str(await self.conn.fetchval(_CONTACT, conversation_id)))

    async def click(
        self, link: str, visitor: UUID | None = None, *, kind: str = "person", reason: str = "", ago: float = 0,
        is_told: bool = False, **values: Any,
    ) -> str:  # fmt: skip
        """A request to a link, so many days ago; a person's is untold unless it is told. Gives its id."""
        made = {
            "id": new_id(),
            "at": datetime.now(UTC) - timedelta(days=ago),
            "link_id": parse_id("lnk", link),
            "kind": kind,
            "reason": reason or kind,
            "counts": kind == "person",
            "visitor_id": visitor,
            **values,
        }
        await self.insert("click", **made)
        if made["counts"] and not is_told:
            await self.insert("click_untold", click_id=made["id"], at=made["at"], link_id=made["link_id"])
        return public_id("clk", made["id"])

    async def land(self, link: str, click: str, visitor: UUID, session: str, outcome: str = "bound") -> None:
        """A page was loaded after a click; `bound`: and the visitor was bound by it."""
        link_id, now = parse_id("lnk", link), datetime.now(UTC)
        row = await self.conn.fetchrow("select message_id, contact_id from tracked_link where id = $1", link_id)
        assert row is not None
        await self.insert(
            "landing", click_id=parse_id("clk", click), visitor_id=visitor, link_id=link_id, session=session,
            click_at=now, landed_at=now, outcome=outcome, reason="first_claimant", **row,
        )  # fmt: skip
        if outcome == "bound":
            await self.conn.execute(
                "insert into visitor_binding (id, visitor_id, contact_id, period, trust, bound_at, link_id) "
                "values ($1, $2, $3, tstzrange($4, null), 1, $5, $6)",
                new_id(), visitor, row["contact_id"], now - timedelta(days=30), now, link_id,
            )  # fmt: skip

    async def make_days(self, days: int) -> None:
        """Partitions for clicks of so many days past."""
        await self.conn.execute(
            "select make_partition(t::regclass, t || '_' || to_char(d, 'YYYYMMDD'), d || ' 00:00:00+00', "
            "d + 1 || ' 00:00:00+00') from unnest(array['click', 'click_origin', 'web_event']) t, "
            "lateral (select g::date as d from generate_series((now() at time zone 'UTC')::date - $1::int, "
            "(now() at time zone 'UTC')::date - 2, interval '1 day') g) days",
            days,
        )
