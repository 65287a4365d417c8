"""Taking known customers' messages in, in one statement (see `take_messages` in the migrations)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from hub.store.pool import Connection, Record

_OUT_OF_DATE: Final = "PL001"


class OutOfDate(Exception):
    """What the process remembered of the roster or of a conversation does not stand any more; nothing was stored."""


@dataclass(slots=True)
class Rows:
    """Messages as columns, one row per message and channel, in order of acceptance."""

    keys: list[bytes] = field(default_factory=list)
    ids: list[UUID] = field(default_factory=list)
    conversations: list[UUID] = field(default_factory=list)
    generations: list[int] = field(default_factory=list)
    number_ids: list[int] = field(default_factory=list)
    channels: list[UUID] = field(default_factory=list)
    media: list[str] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    contents: list[str] = field(default_factory=list)
    providers: list[str] = field(default_factory=list)
    provider_ids: list[str | None] = field(default_factory=list)
    provider_times: list[datetime | None] = field(default_factory=list)
    customer_times: list[datetime] = field(default_factory=list)
    unrouted: list[bool] = field(default_factory=list)
    datas: list[str] = field(default_factory=list)

    def columns(self) -> tuple[Sequence[Any], ...]:
        """In the order of the function's parameters."""
        return tuple(getattr(self, name) for name in self.__slots__)


TAKE_MESSAGES_SQL = """
select n, sequence, window_from, event_id, prev_id
from take_messages($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)"""


async def take_messages(conn: Connection, version: int, at: datetime, rows: Rows) -> list[Record]:
    """Store them and log their events; gives a row (its place in `rows` from 1, its sequence number, the time its
    reply window counts from, its event's id and predecessor) for each that was new. One statement, durable when it
    returns if no transaction is open. Raises `OutOfDate`.
    """
    try:
        return await conn.fetch(TAKE_MESSAGES_SQL, version, at, *rows.columns())
    except asyncpg.PostgresError as error:
        if error.sqlstate == _OUT_OF_DATE:
            raise OutOfDate(str(error)) from error
        raise
